"""Stored runs by their folder, or by the first characters of their name or id."""

import os
from pathlib import Path

from blrobust.errors import UserError
from blrobust.runs import RUNS
from blrobust.runs.database_files import FILE as DATABASE
from blrobust.runs.record import ANCIENT, Record
from blrobust.runs.record import FILE as RECORD
from blrobust.user_paths import expanded

PARTS = ("noise", "attack")  # folders of two runs that were measured together
LEAST = 4  # the least number of characters of a name, an id or a hash
LEGAL = (
    f"legal: a run folder, or the first {LEAST} or more characters of the name or id of one run in {RUNS} "
    "('blrobust runs' lists them)"
)


def find(run: str | os.PathLike[str]) -> list[Path]:
    """Return the folders of a run: one, or two for noise and attacks that were measured together.

    `run` is the folder, or the first characters of the name, the id or the hash of a run in the folder
    `runs`. Raises `UserError` if there is no such run, or more than one; in the second case the message has
    their names.
    """
    path = expanded(run, "run")
    if path.exists():
        parts = [path / part for part in PARTS if (path / part / RECORD).exists()]
        return [path] if (path / RECORD).exists() or not parts else parts
    text = os.fspath(run)
    if (RUNS / text).is_dir():
        return find(RUNS / text)
    stored = run_folders(RUNS) if RUNS.is_dir() and len(text) >= LEAST else []
    found = [folder for folder in stored if _begins(folder, text)]
    if len(found) != 1:
        names = ", ".join(_name(folder) for folder in found)
        problem = f"which fits {len(found)} runs: {names}" if found else "which does not exist"
        raise UserError(f"run: got {text!r}, {problem}; {LEGAL}")
    return found


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders, also damaged ones, among `folder`, its subfolders and their `PARTS`."""
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    parts = [entry / part for entry in inside for part in PARTS]
    return [
        path
        for path in (folder, *inside, *parts)
        if any((path / name).exists() for name in (RECORD, DATABASE, ANCIENT))
    ]


def _begins(folder: Path, text: str) -> bool:
    """Return whether the name, the hash or the id of the run in `folder` begins with `text`."""
    if _name(folder).startswith(text):
        return True
    try:
        record = Record.read(folder)
    except UserError:
        return False
    return record.hash.startswith(text) or (record.id or "").startswith(text)


def _name(folder: Path) -> str:
    return folder.relative_to(RUNS).as_posix()
