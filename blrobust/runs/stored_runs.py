"""Stored runs by their folder, or by their id."""

import os
from pathlib import Path

from blrobust.errors import UserError
from blrobust.runs import RUNS
from blrobust.runs.record import FILE as RECORD
from blrobust.runs.record import Record

PARTS = ("noise", "attack")  # folders of two runs that were measured together
LEAST = 6  # characters of an id


def find(run: str | os.PathLike[str]) -> list[Path]:
    """Return the folders of a run: one, or two for noise and attacks that were measured together.

    `run` is the folder, or the name, the id or the hash of a run in the folder `runs`, of which the first
    characters are enough. Raises `UserError` if there is no such run, or more than one.
    """
    path = Path(run).expanduser()
    if path.exists():
        parts = [path / part for part in PARTS if (path / part / RECORD).is_file()]
        return [path] if (path / RECORD).is_file() or not parts else parts
    text = os.fspath(run)
    if (RUNS / text).is_dir():
        return find(RUNS / text)
    found = [folder for folder in _stored() if len(text) >= LEAST and _has_id(folder, text)]
    if len(found) != 1:
        problem = f"the id of {len(found)} runs in {RUNS}" if found else "which does not exist"
        raise UserError(f"run: got {text!r}, {problem}; legal: a run folder, or the id of a run in {RUNS}")
    return found


def _stored() -> list[Path]:
    if not RUNS.is_dir():
        return []
    return sorted(folder for folder in RUNS.iterdir() if (folder / RECORD).is_file())


def _has_id(folder: Path, text: str) -> bool:
    try:
        record = Record.read(folder)
    except UserError:
        return False
    return record.hash.startswith(text) or (record.id or "").startswith(text)
