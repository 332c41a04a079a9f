"""The tables of run.sqlite, and the checks of their definitions and rows when a database is opened.

A database can have views and triggers, which SQLite evaluates like code. So only the tables of a run are
legal, with the definitions that blrobust writes.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

TABLES = (
    """CREATE TABLE cells (
        model TEXT, kind TEXT, level REAL, draw INTEGER, n INTEGER, correct INTEGER,
        forwards INTEGER, backwards INTEGER, seconds REAL, finished TEXT, outcomes BLOB, checksum BLOB,
        PRIMARY KEY (model, kind, level, draw))""",
    """CREATE TABLE pictures (
        kind TEXT, level REAL, sample INTEGER, label INTEGER, png BLOB, checksum BLOB,
        PRIMARY KEY (kind, level))""",
    "CREATE TABLE labels (id INTEGER PRIMARY KEY, labels BLOB, checksum BLOB)",
    "CREATE TABLE run (id TEXT PRIMARY KEY, cells INTEGER)",  # one row; the number of stored cells
)
CELL = (str, str, float, int, int, int, int, int, float, str, bytes)  # the types of a row of "cells"
MOST_SECONDS = 5e7  # of a cell, a year and a half


def check_tables(connection: sqlite3.Connection, *, sealed: bool) -> None:
    """Raise `ValueError` unless the tables of a database are those of a run, without views and triggers.

    The rows of a `sealed` database have checksums, unlike those of format 2.
    """
    legal = list(TABLES) if sealed else [table.replace(", checksum BLOB", "") for table in TABLES[:-1]]
    found = [text for (text,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")]
    if not found:
        raise ValueError("it has no tables")
    if sorted(" ".join(str(text).split()) for text in found) != sorted(" ".join(t.split()) for t in legal):
        raise ValueError("its tables are not those of this run")


def check_rows(connection: sqlite3.Connection, run_id: str | None) -> None:
    """Raise `ValueError` for a row whose checksum does not match, and for an impossible cell."""
    for table in ("cells", "pictures", "labels"):
        for row in connection.execute(f"SELECT * FROM {table}"):
            values = unsealed(table, row, run_id)
            if table == "cells" and not _is_cell(values):
                raise ValueError("a cell has a value of another type or out of range")


def unsealed(table: str, row: Sequence[Any], run_id: str | None) -> tuple[Any, ...]:
    """Return a row of a table without its checksum; raise `ValueError` if the checksum does not match.

    Rows of a database of format 2, without `run_id`, have no checksum.
    """
    if run_id is None:
        return tuple(row)
    *values, found = row
    if found != checksum(run_id, values):
        raise ValueError(f"checksum mismatch of a row in the table {table}")
    return tuple(values)


def checksum(run_id: str, values: Iterable[Any]) -> bytes:
    """Return the SHA-256 over the id of a run and the type, length and content of each value of a row."""
    digest = hashlib.sha256(run_id.encode())
    for value in values:
        content = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()


def _is_cell(values: Sequence[Any]) -> bool:
    if tuple(map(type, values)) != CELL:
        return False
    *_, draw, n, correct, forwards, backwards, seconds, _, _ = values
    counts = (draw, n, correct, forwards, backwards)
    return all(count >= 0 for count in counts) and bool(0 <= seconds <= MOST_SECONDS)
