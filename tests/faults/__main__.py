"""Try to lose results: `PYTHONPATH=tests python -m faults --kills 1000 --inputs 2000 --flips 500 --pairs 200`."""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from faults import inputs, kills, pairs
from faults.process import preload

Trial = Callable[[int, Path], tuple[list[str], Counter[str]]]


def trials(has_strace: bool) -> dict[str, Trial]:
    """Return the trials by name; each takes a seed and a folder, and returns faults and what it tried."""
    return {
        "kills": partial(kills.trial, has_strace=has_strace),
        "inputs": inputs.trial,
        "pairs": pairs.trial,
    }


def work(job: tuple[str, int], *, root: Path, has_strace: bool) -> tuple[str, list[str], Counter[str]]:
    """Run one trial in the folder of this worker."""
    name, seed = job
    folder = root / f"worker-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    faults, counts = trials(has_strace)[name](seed, folder)
    return name, faults, counts


def main() -> None:
    """Run the trials that the command line asks for; exit with 1 if one finds a fault."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    for name in trials(has_strace=False):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N", help=f"number of trials: {name}")
    parser.add_argument("--seed", type=int, default=0, help="first seed; trial i has seed + i")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="JSON file of the counts")
    arguments = parser.parse_args()
    has_strace = shutil.which("strace") is not None
    jobs = [
        (name, arguments.seed + i) for name in trials(has_strace) for i in range(getattr(arguments, name))
    ]
    preload()
    start = time.monotonic()
    faults: list[str] = []
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as root:
        do = partial(work, root=Path(root), has_strace=has_strace)
        with multiprocessing.get_context("fork").Pool(arguments.workers) as pool:
            for done, (name, found, tried) in enumerate(pool.imap_unordered(do, jobs), 1):
                counts.update({f"{name}: {what}": number for what, number in tried.items()})
                for fault in found:
                    print(f"\n{name}: {fault}", flush=True)
                faults += found
                print(f"\r{done} of {len(jobs)}, {len(faults)} faults", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    result = {"trials": dict(Counter(name for name, _ in jobs)), "tried": dict(sorted(counts.items()))}
    result |= {"faults": len(faults), "strace": has_strace, "seconds": round(time.monotonic() - start)}
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
