"""run.sqlite: the tables of a run. Finished cells are never lost, and reading changes no file."""

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from blrobust.errors import UserError

Outcomes = dict[str, NDArray[Any]]

FILE = "run.sqlite"
FILES = (FILE, f"{FILE}-wal", f"{FILE}-shm")
TABLES = (
    """CREATE TABLE IF NOT EXISTS cells (
        model TEXT, kind TEXT, level REAL, draw INTEGER, n INTEGER, correct INTEGER,
        forwards INTEGER, backwards INTEGER, seconds REAL, finished TEXT, outcomes BLOB,
        PRIMARY KEY (model, kind, level, draw))""",
    """CREATE TABLE IF NOT EXISTS pictures (
        kind TEXT, level REAL, sample INTEGER, label INTEGER, png BLOB,
        PRIMARY KEY (kind, level))""",
    "CREATE TABLE IF NOT EXISTS labels (id INTEGER PRIMARY KEY, labels BLOB)",
)


def create(folder: Path, labels: NDArray[np.int16]) -> sqlite3.Connection:
    """Return the database of a run, open for writing, with its tables and the data set's labels."""
    with using(folder), contextlib.ExitStack() as stack:
        database = sqlite3.connect(folder / FILE)
        stack.callback(database.close)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # a cell costs seconds, an fsync milliseconds
        with database:
            database.execute("BEGIN")  # Python does not begin a transaction for CREATE TABLE
            for table in TABLES:
                database.execute(table)
            row = (pack({"labels": labels}),)
            database.execute("INSERT OR IGNORE INTO labels VALUES (0, ?)", row)
        stack.pop_all()
    return database


def connect(folder: Path, *, finished: bool) -> sqlite3.Connection:
    """Return the database of a run, open for reading; the folder of a finished run is not changed."""
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"{folder}: the run has no results ({FILE} is missing)")
    # Even a reader of a WAL database creates -wal and -shm files, unless it opens it as immutable.
    immutable = finished and not (folder / f"{FILE}-wal").exists()
    mode = "immutable=1" if immutable else "mode=ro"
    with using(folder):
        return sqlite3.connect(f"{file.resolve().as_uri()}?{mode}", uri=True)


@contextlib.contextmanager
def using(folder: Path) -> Iterator[None]:
    """Raise `UserError`, in one line that names the file, for a damaged or unusable database."""
    try:
        yield
    except (sqlite3.Error, zlib.error, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / FILE} cannot be used: {error}") from error


def pack(arrays: Outcomes) -> bytes:
    """Return arrays as compressed safetensors: compact, and never unpickled."""
    return zlib.compress(save(arrays))


def unpack(blob: bytes) -> Outcomes:
    """Return the arrays of a blob."""
    return load(zlib.decompress(blob))
