"""Pairs: two processes that write to one folder; nothing is lost, and nothing is measured twice."""

import random
import shutil
import time
from collections import Counter
from pathlib import Path

from faults.kills import completed, whole
from faults.process import CODES, Process
from faults.subjects import SUBJECTS

REFUSALS = ("another process", "legal: a folder without")  # the second: what is trained is not trained again


def trial(seed: int, root: Path) -> tuple[list[str], Counter[str]]:
    """Start a command twice, at once or one after the other; return the faults, and what was tried."""
    source = random.Random(f"pairs {seed}")
    subject = source.choice(SUBJECTS)
    expected = whole(subject, root)
    folder = root / f"pair-{seed}"
    pair = [Process(subject.command(folder), root) for _ in range(2)]
    delay = source.choice([0.0, 0.01, source.uniform(0, expected.seconds)])
    pair[0].go()
    time.sleep(delay)
    pair[1].go()
    ended = [process.wait() for process in pair]
    faults = [fault for one in ended for fault in one.faults(*CODES)]
    refused = [one for one in ended if one.code == 2]
    for one in refused:
        if not any(text in one.err for text in REFUSALS):
            faults.append(f"{one.command}: refused with {one.err[-300:]}")
    if len(refused) == len(ended):
        faults.append(f"{subject.name}: both are refused")
    faults += completed(subject, folder, root, expected)
    shutil.rmtree(folder, ignore_errors=True)
    counts = Counter({"one refused": len(refused) == 1, "both shown": not refused})
    return [f"seed {seed}, {delay:.3f} s apart: {fault}" for fault in faults], counts
