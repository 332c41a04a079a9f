"""The database run.sqlite of a run, with its cells, pictures and labels.

A cell is the result of one model for one kind of perturbation, at one level, in one draw (repetition).

Committed cells survive a killed process and a power failure. Reading a finished run changes no file. SQLite
commits to a write-ahead log, run.sqlite-wal, so that others can read while cells are added. The log is then
copied into run.sqlite, as often as time allows. Rows that are lost by damage to the log are an error for
readers (`row_count`), and the command that continues the run measures them again.

The database has the id of the run, which is also in run.json. Every row has a checksum over this id and the
values of the row. So rows that were edited, damaged or copied from another run raise an error. Databases of
format 2 have no id and no checksums.
"""

import contextlib
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from blrobust.atomic_write import write_bytes
from blrobust.errors import UserError, reason
from blrobust.runs import row_count
from blrobust.runs.database_files import FILE, FILES, LOG, check_files, has_tables
from blrobust.runs.packed_arrays import Outcomes, pack, unpack
from blrobust.runs.row_count import RowCount
from blrobust.runs.stored_rows import TABLES, check_rows, check_tables, checksum, unsealed

Key = tuple[str, str, float, int]  # of a cell: model, kind, level, draw

WRITE_AHEAD = slice(18, 20)  # the bytes of run.sqlite that are 2 if it has a write-ahead log
COPIES = 20  # the log is copied again after this many times the time of a copy


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
        self._count: RowCount | None = None  # of a database that is open for writing
        self._next_copy = 0.0  # the time at which the log may be copied into run.sqlite

    @classmethod
    def create(
        cls,
        folder: Path,
        run_id: str | None,
        labels: NDArray[np.int16],
        *,
        check: Callable[[], None] = lambda: None,
    ) -> Self:
        """Return the database in `folder`, open for writing; create it if it does not exist or has no tables.

        A new database stores the true `labels` int16 (n,) of the data set. `check` is that of
        `atomic_write.write_bytes`. Raises `UserError` for a database that is damaged, belongs to another run
        or has other labels, and if a link, a folder or a pipe is in the place of one of its files.
        """
        check_files(folder)
        with using(folder), contextlib.ExitStack() as stack:
            if run_id is not None and not has_tables(folder / FILE):
                for log in FILES[1:]:  # they would be merged into the new database
                    (folder / log).unlink(missing_ok=True)
                write_bytes(folder / FILE, _new(folder, run_id, labels), check=check)
            connection = sqlite3.connect(folder / FILE)
            stack.callback(connection.close)
            database = cls(folder, connection, run_id)
            database.check()  # before the file is changed
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a cell costs seconds, an fsync milliseconds
            if not np.array_equal(database.labels(len(labels)), labels):
                raise ValueError("the labels are not those of the data set")
            database._count = RowCount(folder, database._rows())
            stack.pop_all()
        return database

    @classmethod
    def connect(cls, folder: Path, run_id: str | None, *, finished: bool) -> Self:
        """Return the database in `folder`, open for reading; the folder of a `finished` run is not changed.

        Raises `UserError` for a database that is missing, damaged or of another run, or that lost rows.
        """
        file = folder / FILE
        check_files(folder)
        if not file.exists():
            raise UserError(f"{folder}: the run has no results ({FILE} is missing)")
        # Opening a database in WAL mode creates -wal and -shm files, even for reading, unless "immutable".
        immutable = finished and not (folder / LOG).exists()
        mode = "immutable=1" if immutable else "mode=ro"
        with using(folder), contextlib.ExitStack() as stack:
            connection = sqlite3.connect(f"{file.resolve().as_uri()}?{mode}", uri=True)
            stack.callback(connection.close)
            database = cls(folder, connection, run_id)
            least = row_count.read(folder)  # before the rows, which another process may be adding
            database.check()
            if database._rows() < least:
                raise ValueError(f"cells are missing; {LOG} is damaged, or another file of the run is older")
            stack.pop_all()
        return database

    def close(self) -> None:
        """Close the database; SQLite merges the write-ahead log, if there is one, into run.sqlite."""
        self._connection.close()
        if self._count is not None:
            self._count.close()

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
        with using(self._folder), self._connection as connection:
            connection.execute("BEGIN")  # both queries see the same commit
            keys = connection.execute("SELECT model, kind, level, draw FROM cells").fetchall()
            counts = [] if self._id is None else connection.execute("SELECT cells FROM run").fetchall()
        if self._id is not None and counts != [(len(keys),)]:
            raise UserError(f"{self._folder / FILE} cannot be used: cells are missing")
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
        if self._count is not None:
            self._count.write(self._count.rows + len(rows))
        self._copy_log()

    def add_pictures(self, pictures: Iterable[Picture]) -> None:
        """Commit the pictures of the report; they replace all stored pictures."""
        if self._count is not None:
            self._count.write(0)  # the new pictures may be fewer
        with using(self._folder), self._connection:
            self._connection.execute("DELETE FROM pictures")
            self._insert("pictures", pictures)
        if self._count is not None:
            self._count.write(self._rows())
        self._copy_log()

    def _copy_log(self) -> None:
        """Copy the log into run.sqlite and empty it, unless this would take over 5 % of the time of the run.

        SQLite waits for readers for five seconds at most.
        """
        start = time.monotonic()
        if start < self._next_copy:
            return
        with using(self._folder):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        end = time.monotonic()
        self._next_copy = end + COPIES * (end - start)

    def _rows(self) -> int:
        """Return the number of cells and pictures."""
        query = "SELECT (SELECT count(*) FROM cells) + (SELECT count(*) FROM pictures)"
        return int(self._connection.execute(query).fetchone()[0])

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


def _new(folder: Path, run_id: str, labels: NDArray[np.int16]) -> bytes:
    """Return the content of the file of a new database."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        database = Database(folder, connection, run_id)
        with connection:
            for table in TABLES:
                connection.execute(table)
            connection.execute("INSERT INTO run VALUES (?, 0)", (run_id,))
            database._insert("labels", [(0, pack({"labels": labels}))])
        content = bytearray(connection.serialize())
    content[WRITE_AHEAD] = b"\2\2"
    return bytes(content)


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
