"""The content of a finished folder, and the differences between two of them."""

import csv
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from blrobust.atomic_write import is_temporary
from blrobust.runs.database_files import FILE, FILES, LOG

# Different in every run: times, the command line with its folder, the sessions (one for every start), the
# random id of a run, and the checksums, which cover all of these.
VARYING = {"seconds", "started", "finished", "command_line", "sessions", "id", "checksum"}
# A lock is empty and stays. Reports have times and command lines; all else in them is made from the content
# that is compared here.
IGNORED = (".html", ".lock")


def content(folder: Path) -> dict[str, Any]:
    """Return everything in a finished folder that another run of the same command must repeat."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in ("lock", *FILES) or path.suffix in IGNORED:
            continue
        if is_temporary(path.name):
            found[name] = "a temporary file"
        else:
            found[name] = path.read_bytes()
            with suppress(ValueError):  # half a file stays as bytes, which differ
                found[name] = READERS.get(path.suffix, Path.read_bytes)(path)
    if (folder / FILE).exists():
        found |= _tables(folder / FILE)
    return found


def _read_csv(path: Path) -> Any:
    with path.open(newline="", encoding="utf-8") as file:
        return [_constant(row) for row in csv.DictReader(file)]


def _read_json(path: Path) -> Any:
    return _constant(json.loads(path.read_text("utf-8")))


READERS: dict[str, Callable[[Path], Any]] = {".csv": _read_csv, ".json": _read_json}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return the names of the parts that differ, are missing or are extra."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def _constant(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in VARYING}


def _tables(path: Path) -> dict[str, Any]:
    mode = "mode=ro" if path.with_name(LOG).exists() else "immutable=1"  # which creates no files
    with closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)) as database:
        try:
            found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            return {f"table {name}": _rows(database, name) for (name,) in found}
        except sqlite3.DatabaseError as error:
            return {path.name: f"not readable: {error}"}


def _rows(database: sqlite3.Connection, table: str) -> list[Sequence[Any]]:
    cursor = database.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    places = [place for place, name in enumerate(names) if name not in VARYING]
    return sorted((tuple(row[place] for place in places) for row in cursor), key=repr)
