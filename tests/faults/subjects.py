"""The commands that write folders, as small as they can be, and what their folders hold."""

import csv
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blrobust.atomic_write import is_temporary

DATA = ("--dataset", "cifar10-sample", "--device", "cpu", "--limit", "2")
# They differ from run to run: the time of a run, and the checksums and the name of the run, which cover it.
VARYING = {"seconds", "finished", "checksum", "run", "id"}
IGNORED = {"lock", "run.json", "run.sqlite", "run.sqlite-wal", "run.sqlite-shm"}


@dataclass(frozen=True)
class Subject:
    """A command, and what it takes to call it again after a kill."""

    name: str
    arguments: tuple[str, ...]
    resume: tuple[str, ...] = ()

    def command(self, folder: Path, *, again: bool = False) -> list[str]:
        """Return the arguments with which the command writes to `folder`."""
        return [*self.arguments, *(self.resume if again else ()), "--out", str(folder)]


SUBJECTS = [
    Subject("noise", ("noise", *DATA, "--models", "fp32,fft85", "--sigma", "0,0.5")),
    Subject(
        "attack",
        ("attack", *DATA, "--models", "fp32", "--kind", "fgsm", "--strength", "2/255", "--save-adversarials"),
    ),
    Subject("heatmap", ("heatmap", "fp32", "--size", "1", *DATA)),
    Subject(
        "recover",
        ("recover", "--kind", "fgsm", "--compressions", "0.5", "--bits", "4", "--networks", "fft85", *DATA),
    ),
    Subject(
        "train",
        ("train", "fp32,fft50", "--arch", "tiny", "--epochs", "2", "--batch-size", "16", "--device", "cpu"),
        ("--resume",),
    ),
]


def content(folder: Path) -> dict[str, Any]:
    """Return everything in a finished folder that another run of the same command must repeat."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in IGNORED or path.suffix in (".html", ".lock"):
            continue
        if is_temporary(path.name):
            found[name] = "a temporary file"
        elif path.suffix == ".csv":
            found[name] = _table(path)
        else:
            found[name] = path.read_bytes()
    if (folder / "run.sqlite").exists():
        found |= _database(folder / "run.sqlite")
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return the names of what differs, is missing or is too much."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: row[key] for key in row if key not in VARYING} for row in csv.DictReader(file)]


def _database(path: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {f"table {name}": _rows(database, name) for name in names}


def _rows(database: sqlite3.Connection, table: str) -> list[Sequence[Any]]:
    cursor = database.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    places = [place for place, name in enumerate(names) if name not in VARYING]
    return sorted((tuple(row[place] for place in places) for row in cursor), key=repr)
