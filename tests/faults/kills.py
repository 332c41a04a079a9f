"""Kills: a command that a signal or a failing disk stops anywhere gives the same bits when called again."""

import random
import signal
import time
from functools import cache
from pathlib import Path

from faults import tracer
from faults.completion import completed
from faults.process import CODES, Process, run
from faults.result import Result
from faults.subjects import SUBJECTS, Subject, warm_up, whole
from faults.tracer import Tracer

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
ERRORS = ("ENOSPC", "EIO")  # a full disk, a broken one
MOST_STOPS = 3

Point = tuple[str, int]  # a system call, and its number among the calls of its kind


@cache
def points(subject: Subject, shared: Path) -> list[Point]:
    """Return all system calls of the command that change its folder; empty without strace."""
    if not tracer.is_there():
        return []
    folder, log = shared / f"traced-{subject.name}", shared / f"{subject.name}.strace"
    subject.prepare(folder, shared)
    process = Process(subject.command(folder), shared)
    traced = Tracer(process, "-e", f"trace={tracer.CALLS}", log=log)
    process.go()
    process.wait()
    traced.end()
    return tracer.disk_calls(log, folder)


@cache
def visits(shared: Path) -> list[tuple[Subject, Point]]:
    """Return all system calls of all commands, mixed, so that a few trials visit every command."""
    listed = [(subject, point) for subject in SUBJECTS for point in points(subject, shared)]
    random.Random(0).shuffle(listed)
    return listed


def prepare(shared: Path) -> int:
    """Run every command undisturbed, before this process is forked.

    Returns the number of system calls that the trials visit one after the other.
    """
    warm_up(shared)
    for subject in SUBJECTS:
        whole(subject, shared)
    return len(visits(shared))


def trial(seed: int, shared: Path, scratch: Path) -> Result:
    """Stop a command up to three times, then let it end.

    Three of five trials stop it first at a system call, each at the next one in the list of all; the others
    at a random time.
    """
    source, result = random.Random(f"kills {seed}"), Result()
    listed = visits(shared)
    if listed and seed % 5 < 3:
        subject, first = listed[(seed // 5 * 3 + seed % 5) % len(listed)]
    else:
        subject, first = source.choice(SUBJECTS), None
    folder = scratch / subject.name
    subject.prepare(folder, shared)
    for attempt in range(source.randint(1, MOST_STOPS)):
        process = Process(subject.command(folder, again=attempt > 0), shared)
        if attempt and points(subject, shared) and source.random() < 0.5:
            first = source.choice(points(subject, shared))
        if first:
            _stop_at_a_call(process, first, source, result)
        else:
            _stop_at_a_time(process, source, result, whole(subject, shared).seconds)
        first = None
        if source.random() < 0.2 and folder.is_dir():
            result.tried["unfinished folders listed"] += 1
            result.add(run(["runs", str(folder)], shared).faults(*CODES), "listed")
    result.add(completed(subject, folder, shared), "completed")
    return result


def _stop_at_a_time(process: Process, source: random.Random, result: Result, seconds: float) -> None:
    number, moment = source.choice(SIGNALS), source.uniform(0, 1.1 * seconds)
    process.go()
    time.sleep(moment)
    process.kill(number)
    ended = process.wait()
    result.tried[f"{number.name} at a random time"] += ended.code not in CODES
    result.add(ended.faults(*CODES, *_codes(number)), f"{number.name} after {moment:.3f} s")


def _stop_at_a_call(process: Process, point: Point, source: random.Random, result: Result) -> None:
    call, count = point
    codes: tuple[int, ...] = ()
    if call in tracer.WRITES and source.random() < 0.4:
        name = source.choice(ERRORS)
        effect = f"error={name}"
    else:
        number = source.choice(SIGNALS)
        name, effect, codes = number.name, f"signal={number.name}", _codes(number)
    traced = Tracer(process, "-e", f"trace={call}", "-e", f"inject={call}:{effect}:when={count}")
    process.go()
    ended = process.wait()
    traced.end()
    is_stopped = ended.code not in CODES if codes else ended.code == 2
    result.tried[f"{name} at a system call"] += is_stopped
    result.add(ended.faults(*CODES, *codes), f"{call} {count}, {effect}")


def _codes(number: signal.Signals) -> tuple[int, ...]:
    """Return the exit codes of a process that a signal stops; the second before the command begins."""
    return (-number,) if number == signal.SIGKILL else (128 + number, -number)
