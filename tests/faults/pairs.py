"""Pairs: two processes that write to one folder; nothing is lost, and nothing is measured twice."""

import random
import time
from pathlib import Path

from faults.completion import TRAINED, completed
from faults.process import CODES, Process
from faults.result import Fault, Result
from faults.subjects import SUBJECTS, whole

REFUSALS = ("another process", TRAINED)


def trial(seed: int, shared: Path, scratch: Path) -> Result:
    """Start a command twice, at once or one after the other."""
    source, result = random.Random(f"pairs {seed}"), Result()
    subject = source.choice(SUBJECTS)
    folder = scratch / subject.name
    subject.prepare(folder, shared)
    pair = [Process(subject.command(folder), shared) for _ in range(2)]
    delay = source.choice([0.0, 0.01, source.uniform(0, whole(subject, shared).seconds)])
    pair[0].go()
    time.sleep(delay)
    pair[1].go()
    ended = [process.wait() for process in pair]
    faults = [fault for one in ended for fault in one.faults(*CODES)]
    refused = [one for one in ended if one.code == 2]
    faults += [
        Fault("other", f"{one.command}: refused with {one.err[-300:]}")
        for one in refused
        if not any(text in one.err for text in REFUSALS)
    ]
    if len(refused) == len(ended):
        faults.append(Fault("lost", f"{subject.name}: both are refused"))
    result.add([*faults, *completed(subject, folder, shared)], f"{delay:.3f} s apart")
    result.tried["one refused" if refused else "both shown"] += 1
    return result
