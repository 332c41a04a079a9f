"""Try to lose results: `PYTHONPATH=tests:. python -m faults --kills 1000 --inputs 2000 --pairs 200`."""

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
from typing import Any

from faults import flips, full_disks, inputs, kills, pairs, tracer
from faults.process import preload
from faults.result import KINDS, Result

# Each takes a seed, the folder that all trials share, and an empty folder of its own.
TRIALS: dict[str, Callable[[int, Path, Path], Result]] = {
    "kills": kills.trial,
    "full": full_disks.trial,
    "inputs": inputs.trial,
    "flips": flips.trial,
    "pairs": pairs.trial,
}


def run_trials(
    numbers: dict[str, int], *, seed: int, workers: int, on_result: Callable[[str, int, Result], None]
) -> dict[str, Any]:
    """Run `numbers` of trials, with seeds from `seed` on; return the attempts and faults by trial."""
    counts: dict[str, Any] = {}
    preload()
    with tempfile.TemporaryDirectory() as root:
        shared = Path(root) / "shared"
        shared.mkdir()
        calls = kills.prepare(shared)
        if "inputs" in numbers:
            inputs.bystanders(shared)
        if "flips" in numbers:
            flips.killed(shared)
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            for name, number in numbers.items():
                start, tried, faults = time.monotonic(), Counter[str](), Counter[str]()
                jobs = [(name, trial) for trial in range(seed, seed + number)]
                for trial, result in pool.imap_unordered(partial(_run, Path(root)), jobs):
                    tried += result.tried
                    faults.update(fault.kind for fault in result.faults)
                    on_result(name, trial, result)
                counts[name] = {"trials": number, "tried": dict(sorted(tried.items()))}
                counts[name]["faults"] = {kind: faults[kind] for kind in KINDS}
                counts[name]["seconds"] = round(time.monotonic() - start)
    if "kills" in counts:
        counts["kills"]["system calls"] = calls
    return counts


def _run(root: Path, job: tuple[str, int]) -> tuple[int, Result]:
    name, seed = job
    scratch = root / f"{name}-{seed}"
    scratch.mkdir()
    try:
        result = TRIALS[name](seed, root / "shared", scratch)
    except Exception as error:
        raise RuntimeError(f"the trial --{name} 1 --seed {seed} failed itself") from error
    shutil.rmtree(scratch, ignore_errors=True)
    return seed, result


def main() -> None:
    """Run the trials that the command line names; exit with 1 if one finds a fault."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    for name in TRIALS:
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N", help=f"number of trials: {name}")
    parser.add_argument("--seed", type=int, default=0, help="first seed; trial i has seed + i")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="JSON file of the counts; those of other trials stay")
    arguments = parser.parse_args()
    numbers = {name: number for name in TRIALS if (number := getattr(arguments, name))}
    if "full" in numbers and not full_disks.can_mount():
        print("no full disks: they need the right to mount a tmpfs (root)", file=sys.stderr)
        del numbers["full"]
    if not tracer.is_there():
        print("no kills at system calls: they need strace", file=sys.stderr)
    done = 0

    def show(name: str, seed: int, result: Result) -> None:
        nonlocal done
        done += 1
        for fault in result.faults:
            print(f"\n{fault.kind}: --{name} 1 --seed {seed}: {fault.text}", flush=True)
        print(f"\r{done} of {sum(numbers.values())}", end="", file=sys.stderr, flush=True)

    counts = run_trials(numbers, seed=arguments.seed, workers=arguments.workers, on_result=show)
    print(f"\n{json.dumps(counts, indent=1)}")
    if out := arguments.out:
        before = json.loads(out.read_text("utf-8")) if out.exists() else {}
        out.write_text(json.dumps(before | counts, indent=1) + "\n", "utf-8")
    sys.exit(any(any(count["faults"].values()) for count in counts.values()))


if __name__ == "__main__":
    main()
