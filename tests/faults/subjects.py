"""The commands that write, as small as they can be, each run once undisturbed."""

import shutil
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from support.plain_model import write_images

from blrobust.analysis.view import view
from blrobust.reports import document
from blrobust.runs.run import Run
from faults.content import content
from faults.process import run

IMAGES = "images.npz"  # in the folder in which all commands run
DATA = f"--dataset npz:{IMAGES} --device cpu"
MODEL = "support.plain_model:Plain"


@dataclass(frozen=True)
class Subject:
    """A command, and the arguments with which it is called again after a kill.

    `begin` is the subject whose finished folder the command needs.
    """

    name: str
    arguments: tuple[str, ...]
    resume: tuple[str, ...] = ()
    begin: "Subject | None" = None

    def prepare(self, folder: Path, shared: Path) -> None:
        """Make the folder in which the command begins, if it needs one."""
        if self.begin:
            shutil.copytree(whole(self.begin, shared).folder, folder)

    def command(self, folder: Path, *, again: bool = False) -> list[str]:
        """Return the arguments with which the command writes to `folder`."""
        to = (str(folder),) if self.begin else ("--out", str(folder))
        return [*self.arguments, *(self.resume if again else ()), *to]


def _subject(line: str, *, resume: tuple[str, ...] = (), begin: Subject | None = None) -> Subject:
    name, *more = line.split()
    return Subject(name, (name, *more), resume, begin)


NOISE = _subject(f"noise --models x={MODEL},y={MODEL} --sigma 0,0.5 {DATA}")
SUBJECTS = [
    NOISE,
    _subject(
        f"attack --models x={MODEL} --kind fgsm,bim-linf --strength 0.1 --save-adversarials {DATA}",
    ),
    _subject(f"heatmap x={MODEL} --size 3 --batch-size 24 {DATA}"),  # two of the five waves per commit
    _subject(
        f"recover --kind fgsm --source x={MODEL} --networks y={MODEL} --compressions 0.5 --bits 4 {DATA}",
    ),
    _subject(
        "train fp32,fft50 --arch tiny --epochs 2 --batch-size 16 --device cpu",
        resume=("--resume",),
    ),
    _subject("report", begin=NOISE),
]


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed: its folder, the content, and the seconds that it took."""

    folder: Path
    content: dict[str, Any]
    seconds: float


@cache
def whole(subject: Subject, shared: Path) -> Whole:
    """Run a command undisturbed in the folder `shared`, once for all trials."""
    folder = shared / f"whole-{subject.name}"
    if not (shared / IMAGES).exists():
        write_images(shared / IMAGES)
    subject.prepare(folder, shared)
    start = time.monotonic()
    ended = run(subject.command(folder), shared)
    if ended.code:
        raise RuntimeError(f"{ended.command}: {ended.err}")
    return Whole(folder, content(folder), time.monotonic() - start)


def warm_up(shared: Path) -> None:
    """Draw a report in this process, so that those forked from it find its libraries and templates loaded."""
    with Run.open(whole(NOISE, shared).folder) as stored:
        document.render([view(stored)], shared / "report.html")
