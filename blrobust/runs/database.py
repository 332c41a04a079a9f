"""The database run.sqlite of a run, with its cells, pictures and labels.

A cell is the result of one model for one kind of perturbation, at one level, in one draw (repetition).

Committed cells survive a killed process and a power failure. Reading a finished run changes no file.

The database has the id of the run, which is also in run.json. Every row has a checksum over this id and the
values of the row. So rows that were edited, damaged or copied from another run raise an error. Databases of
format 2 have no id and no checksums.
"""

import contextlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from blrobust.errors import UserError, reason
from blrobust.runs.stored_rows import TABLES, check_rows, check_tables, checksum, unsealed

Outcomes = dict[str, NDArray[Any]]
Key = tuple[str, str, float, int]  # of a cell: model, kind, level, draw

FILE = "run.sqlite"
MOST_BYTES = 1024  # the most bytes of all arrays of a cell, per image; a dozen numbers take far fewer
MOST_HEADER = 2**16  # the most bytes of the names and types of these arrays
FILES = (FILE, f"{FILE}-wal", f"{FILE}-shm")


class Picture(NamedTuple):
    """One perturbed image for the report: kind, level, index in the data set, true label, and PNG file."""

    kind: str
    level: float
    sample: int
    label: int
    png: bytes


class Cell(NamedTuple):
    """A finished cell: draw, passes, wall time in seconds, and arrays (n,) over the n images, by name.

    `forwards` and `backwards` are the numbers of images in forward and in backward passes.
    """

    draw: int
    forwards: int
    backwards: int
    seconds: float
    outcomes: Outcomes


class Database:
    """The open database of a run; `run_id` is the id of the run, or None for a run of format 2."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, run_id: str | None) -> None:
        """Store the arguments; use `create` or `connect` to open a database."""
        self._folder = folder
        self._connection = connection
        self._id = run_id

    @classmethod
    def create(cls, folder: Path, run_id: str | None, labels: NDArray[np.int16]) -> Self:
        """Return the database in `folder`, open for writing; create it if it does not exist.

        A new database stores the true `labels` int16 (n,) of the data set. Raises `UserError` for a database
        that is damaged, belongs to another run or has other labels. Raises it for a symbolic link too,
        because the target of the link may be a file of another program.
        """
        _refuse_link(folder)
        with using(folder), contextlib.ExitStack() as stack:
            connection = sqlite3.connect(folder / FILE)
            stack.callback(connection.close)
            database = cls(folder, connection, run_id)
            is_new = not connection.execute("SELECT name FROM sqlite_master").fetchall()
            if not is_new:
                database.check()  # before the file is changed
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a cell costs seconds, an fsync milliseconds
            if run_id is not None and is_new:
                with connection:
                    connection.execute("BEGIN")  # Python does not begin a transaction for CREATE TABLE
                    for table in TABLES:
                        connection.execute(table)
                    connection.execute("INSERT INTO run VALUES (?, 0)", (run_id,))
                    database._insert("labels", [(0, pack({"labels": labels}))])
            if is_new:
                database.check()
            if not np.array_equal(database.labels(len(labels)), labels):
                raise ValueError("the labels are not those of the data set")
            stack.pop_all()
        return database

    @classmethod
    def connect(cls, folder: Path, run_id: str | None, *, finished: bool) -> Self:
        """Return the database in `folder`, open for reading; the folder of a `finished` run is not changed.

        Raises `UserError` for a database that is missing, damaged or of another run.
        """
        file = folder / FILE
        if not file.is_file():
            raise UserError(f"{folder}: the run has no results ({FILE} is missing)")
        _refuse_link(folder)
        # Opening a database in WAL mode creates -wal and -shm files, even for reading, unless "immutable".
        immutable = finished and not (folder / f"{FILE}-wal").exists()
        mode = "immutable=1" if immutable else "mode=ro"
        with using(folder), contextlib.ExitStack() as stack:
            connection = sqlite3.connect(f"{file.resolve().as_uri()}?{mode}", uri=True)
            stack.callback(connection.close)
            database = cls(folder, connection, run_id)
            database.check()
            stack.pop_all()
        return database

    def close(self) -> None:
        """Close the database; SQLite merges the write-ahead log, if there is one, into run.sqlite."""
        self._connection.close()

    def check(self) -> None:
        """Raise `ValueError` if the database is damaged, has other tables or belongs to another run."""
        check_tables(self._connection, sealed=self._id is not None)
        (state,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if state != "ok":
            raise ValueError(state)
        if self._id is not None and self._connection.execute("SELECT id FROM run").fetchall() != [
            (self._id,)
        ]:
            raise ValueError("it belongs to another run than run.json")
        check_rows(self._connection, self._id)

    # Reading

    def labels(self, n: int) -> NDArray[np.int16]:
        """Return the true labels int16 (n,); raise `UserError` if they are damaged."""
        with using(self._folder):
            ((_, blob),) = self._select("labels", "id = ?", (0,))
            return unpack(blob, n)["labels"]

    def keys(self) -> set[Key]:
        """Return the keys (model, kind, level, draw) of the finished cells.

        Raises `UserError` if the number of stored cells differs from the number that the table `run` records.
        """
        with using(self._folder):
            keys = self._connection.execute("SELECT model, kind, level, draw FROM cells").fetchall()
            if self._id is not None and self._connection.execute("SELECT cells FROM run").fetchall() != [
                (len(keys),)
            ]:
                raise ValueError("cells are missing")
            return set(keys)

    def seconds(self) -> float:
        """Return the wall time of all cells in seconds."""
        with using(self._folder):
            return float(self._connection.execute("SELECT total(seconds) FROM cells").fetchone()[0])

    def cells(self, model: str, kind: str, level: float, labels: NDArray[np.int16]) -> list[Cell]:
        """Return the finished cells of a model, kind and level: one per draw, in ascending order of draws.

        `labels` are the true labels int16 (n,). Raises `UserError` if a cell is damaged or contradicts them.
        """
        condition, order = "model = ? AND kind = ? AND level = ?", "ORDER BY draw"
        with using(self._folder):
            rows = self._select("cells", condition, (model, kind, level), order)
            return [_cell(row, labels) for row in rows]

    def pictures(self) -> list[Picture]:
        """Return the pictures of the report in ascending order of kind and level."""
        with using(self._folder):
            return [Picture(*row) for row in self._select("pictures", "TRUE", (), "ORDER BY kind, level")]

    # Writing

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Commit rows of the table "cells" in one transaction.

        A row has the columns in `TABLES` without the checksum; its outcomes are the bytes that `pack`
        returns.
        """
        rows = list(rows)
        with using(self._folder), self._connection:
            self._insert("cells", rows)
            if self._id is not None:
                self._connection.execute("UPDATE run SET cells = cells + ?", (len(rows),))

    def add_pictures(self, pictures: Iterable[Picture]) -> None:
        """Commit the pictures of the report; they replace all stored pictures."""
        with using(self._folder), self._connection:
            self._connection.execute("DELETE FROM pictures")
            self._insert("pictures", pictures)

    def _insert(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows and their checksums into a table; the caller begins and commits the transaction."""
        for row in rows:
            sealed = (*row,) if self._id is None else (*row, checksum(self._id, row))
            marks = ", ".join("?" * len(sealed))
            self._connection.execute(f"INSERT INTO {table} VALUES ({marks})", sealed)

    def _select(
        self, table: str, condition: str, values: Sequence[Any], order: str = ""
    ) -> list[tuple[Any, ...]]:
        """Return rows of a table without their checksums; raise `ValueError` if a checksum does not match."""
        query = f"SELECT * FROM {table} WHERE {condition} {order}"
        rows = self._connection.execute(query, values).fetchall()
        return [unsealed(table, row, self._id) for row in rows]


def _cell(row: Sequence[Any], labels: NDArray[np.int16]) -> Cell:
    """Return the cell in a row of the table "cells"; `labels` are the true labels int16 (n,).

    Raises `ValueError` if the cell's arrays do not have n entries, or if the number of correct predictions is
    not that of the row.
    """
    *_, draw, n, correct, forwards, backwards, seconds, _, blob = row
    outcomes = unpack(blob, len(labels))
    if any(values.shape[:1] != labels.shape for values in outcomes.values()):
        raise ValueError(f"a cell has other images than the {len(labels):,} labels")
    if (n, correct) != (len(labels), int((outcomes["prediction"] == labels).sum())):
        raise ValueError("a cell has another number of correct predictions than its outcomes")
    return Cell(draw, forwards, backwards, seconds, outcomes)


def _refuse_link(folder: Path) -> None:
    if (folder / FILE).is_symlink():
        raise UserError(f"{folder / FILE}: got a link; legal: a file, or none")


@contextlib.contextmanager
def using(folder: Path) -> Iterator[None]:
    """Return a context that raises `UserError` in place of an error of a damaged or unusable database.

    The message is one line with the path of the database in `folder`.
    """
    try:
        yield
    except UserError:
        raise
    except (sqlite3.Error, zlib.error, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / FILE} cannot be used: {reason(error)}") from error


def pack(arrays: Outcomes) -> bytes:
    """Return arrays as zlib-compressed safetensors; unlike a pickle, they run no code when they are read."""
    return zlib.compress(save(arrays))


def unpack(blob: bytes, n: int) -> Outcomes:
    """Return the arrays over `n` images in bytes that `pack` returned.

    Raises `ValueError` if the bytes are cut, or if they unpack to more bytes than such arrays can have.
    Raises an error of zlib or safetensors for other bytes.
    """
    most = MOST_HEADER + n * MOST_BYTES
    stream = zlib.decompressobj()
    content = stream.decompress(blob, most)
    if not stream.eof:
        raise ValueError(f"got a blob that is cut or has more than {most:,} bytes")
    return load(content)
