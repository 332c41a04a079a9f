"""Kills and full disks: a command that is stopped anywhere and called again gives the same bits."""

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from faults.process import CODES, Process, Tracer, run
from faults.subjects import SUBJECTS, Subject, content, differences

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
# System calls that change the disk; "?": not every architecture has it.
CALLS = {
    "openat": 400,
    "write": 60,
    "pwrite64": 60,
    "fsync": 20,
    "fdatasync": 12,
    "ftruncate": 6,
    "?mkdir,mkdirat": 4,
    "?rename,renameat,?renameat2": 8,
    "?unlink,unlinkat": 12,
    "fcntl": 60,
    "flock": 6,
}  # with a bound for the number of calls in a run
FULL = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate")  # that fail on a full disk


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed: what its folder holds, and the seconds that it takes."""

    content: dict[str, Any]
    seconds: float


@cache
def whole(subject: Subject, root: Path) -> Whole:
    """Run a command undisturbed, once for all trials in a process."""
    folder = root / f"whole-{subject.name}"
    start = time.monotonic()
    ended = run(subject.command(folder), root)
    if ended.code:
        raise RuntimeError(f"{ended.command}: {ended.err}")
    return Whole(content(folder), time.monotonic() - start)


def trial(seed: int, root: Path, *, has_strace: bool) -> tuple[list[str], Counter[str]]:
    """Stop a command up to three times, then let it end; return the faults, and what was tried."""
    source = random.Random(f"kills {seed}")
    subject = source.choice(SUBJECTS)
    expected = whole(subject, root)
    folder = root / f"kill-{seed}"
    counts: Counter[str] = Counter()
    faults: list[str] = []
    for attempt in range(source.randint(1, 3)):
        process = Process(subject.command(folder, again=attempt > 0), root)
        if has_strace and source.random() < 0.6:
            faults += _stopped_at_a_call(process, source, counts)
        else:
            faults += _stopped_at_a_time(process, source, counts, expected.seconds)
        if source.random() < 0.2 and folder.is_dir():
            counts["looks"] += 1
            faults += run(["runs", str(folder)], root).faults(*CODES)
    faults += completed(subject, folder, root, expected)
    shutil.rmtree(folder, ignore_errors=True)
    return [f"seed {seed}: {fault}" for fault in faults], counts


def completed(subject: Subject, folder: Path, root: Path, expected: Whole) -> list[str]:
    """Call a command again; return the faults of its end and of what its folder then holds."""
    is_there = folder.is_dir() and any(folder.iterdir())
    ended = run(subject.command(folder, again=is_there), root)
    # A training that is finished is not trained again.
    is_trained = subject.name == "train" and ended.code == 2 and "legal: a folder without" in ended.err
    faults = [] if is_trained else ended.faults(0)
    return faults + [
        f"{ended.command}: other {name}" for name in differences(expected.content, content(folder))
    ]


def _stopped_at_a_time(
    process: Process, source: random.Random, counts: Counter[str], seconds: float
) -> Iterator[str]:
    number = source.choice(SIGNALS)
    process.go()
    time.sleep(source.uniform(0, 1.1 * seconds))
    process.kill(number)
    ended = process.wait()
    counts[f"{number.name} at a time"] += ended.code not in CODES
    yield from ended.faults(*CODES, *_codes(number))


def _stopped_at_a_call(process: Process, source: random.Random, counts: Counter[str]) -> Iterator[str]:
    if source.random() < 0.25:
        call = source.choice(FULL)
        effect, codes = "error=ENOSPC", ()
    else:
        call = source.choice(list(CALLS))
        number = source.choice(SIGNALS)
        effect, codes = f"signal={number.name}", _codes(number)
    when = source.randint(1, CALLS[call])
    tracer = Tracer(process, "-e", f"trace={call}", "-e", f"inject={call}:{effect}:when={when}")
    process.go()
    ended = process.wait()
    tracer.end()
    if effect == "error=ENOSPC":
        counts["full disk"] += ended.code == 2
    else:
        counts[f"{number.name} at a system call"] += ended.code not in CODES
    yield from (f"{call} {when} {effect}: {fault}" for fault in ended.faults(*CODES, *codes))


def _codes(number: signal.Signals) -> tuple[int, ...]:
    """Return the exit codes of a process that a signal stops; SIGKILL is seen by the parent alone."""
    return (-number,) if number == signal.SIGKILL else (128 + number, -number)
