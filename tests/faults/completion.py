"""The end of every trial that stops a command: it is called again, and must give the same bits."""

from pathlib import Path

from faults.content import content, differences
from faults.process import run
from faults.result import Fault
from faults.subjects import Subject, whole

TRAINED = "legal: a folder without"  # a training that is finished is not trained again


def completed(subject: Subject, folder: Path, shared: Path) -> list[Fault]:
    """Call a command again; return the faults of its end and of the content of its folder."""
    is_there = folder.is_dir() and any(folder.iterdir())
    ended = run(subject.command(folder, again=is_there), shared)
    is_trained = subject.name == "train" and ended.code == 2 and TRAINED in ended.err
    faults = [] if is_trained else ended.faults(0)
    found = content(folder) if folder.is_dir() else {}
    other = differences(whole(subject, shared).content, found)
    return faults + [Fault("lost", f"{ended.command}: other {name}") for name in other]
