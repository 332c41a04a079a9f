"""A run folder: run.json, run.sqlite, results.csv, report.html, and a lock for its one writer."""

import contextlib
import sqlite3
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from blrobust.atomic_write import is_temporary
from blrobust.errors import UserError
from blrobust.runs import LEGAL_FOLDERS, answers, database
from blrobust.runs.database import Outcomes, pack, unpack, using
from blrobust.runs.lock import LOCK, acquire
from blrobust.runs.provenance import FILE as RECORD
from blrobust.runs.provenance import digest, now, read_record, write_record

Cell = tuple[str, str, float, int]  # model, kind, level, draw

RESULTS = "results.csv"
REPORT = "report.html"
ADVERSARIALS = "adversarials"  # folder of the successful inputs, with --save-adversarials
OURS = {LOCK, ADVERSARIALS, RECORD, RESULTS, REPORT, *database.FILES}


@dataclass(frozen=True)
class Picture:
    """One image at one level, for the report's strip: PNG bytes, sample index and true label."""

    kind: str
    level: float
    sample: int
    label: int
    png: bytes


class Run:
    """A run folder, open for reading, and for writing if this process has its lock.

    A context manager: the end of the context closes the database and releases the lock.
    """

    def __init__(
        self,
        path: Path,
        provenance: dict[str, Any],
        connection: sqlite3.Connection,
        lock: FileLock | None = None,
    ) -> None:
        """Store the parts of an open run; use `open` or `create_or_resume` to get one."""
        self.path = path
        self.provenance = provenance  # run.json, whole
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return a run, open for reading; raise `UserError` where `path` is not a usable run folder."""
        provenance = read_record(path)
        finished = provenance["finished"] is not None
        return cls(path, provenance, database.connect(path, finished=finished))

    @classmethod
    def create_or_resume(cls, path: Path, provenance: dict[str, Any], labels: NDArray[np.int16]) -> Self:
        """Return a new run in `path`, or resume the run there if its configuration is the same.

        `provenance` is the content of run.json for a new run; on resuming, only its session is added. A
        finished run is returned read-only and unchanged. Raises `UserError` for a folder with other contents,
        another configuration or models with other logits (`runs.answers`), and if another process writes to
        it.
        """
        existing = _existing(path, provenance)
        if existing is not None and existing["finished"] is not None:
            return cls.open(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = acquire(path / LOCK, f"{path}: another process is working on this run")
        with contextlib.ExitStack() as stack:
            stack.callback(lock.release)
            existing = _existing(path, provenance)  # it may have changed before the lock
            if existing is not None:
                if existing["finished"] is not None:
                    return cls.open(path)
                existing["sessions"].extend(provenance["sessions"])
                # A run begun without answers has those of the models that finish it.
                provenance = {**provenance, **existing}
            write_record(path, provenance)
            connection = database.create(path, labels)
            stack.pop_all()
        return cls(path, provenance, connection, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and release the lock."""
        self._connection.close()
        if self._lock is not None:
            self._lock.release()

    # Configuration

    @property
    def config(self) -> dict[str, Any]:
        """The hashed configuration."""
        config: dict[str, Any] = self.provenance["config"]
        return config

    @property
    def finished(self) -> bool:
        """Whether all cells and results.csv are written."""
        return self.provenance["finished"] is not None

    @property
    def models(self) -> list[str]:
        """Labels of the models, in the user's order."""
        return [card["label"] for card in self.provenance["models"]]

    @property
    def cards(self) -> dict[str, dict[str, Any]]:
        """The models' cards by label."""
        return {card["label"]: card for card in self.provenance["models"]}

    @property
    def kinds(self) -> list[str]:
        """Kinds of perturbation."""
        return list(self.config["kinds"])

    def levels(self, kind: str) -> list[float]:
        """Return the levels of a kind, ascending, with level 0."""
        if kind not in self.kinds:
            raise UserError(f"kind: got {kind!r} in {self.path}; legal: {', '.join(self.kinds)}")
        return list(self.config["kinds"][kind]["levels"])

    @property
    def draws(self) -> int:
        """Draws per image and level."""
        draws: int = self.config["draws"]
        return draws

    @property
    def cells(self) -> int:
        """Number of cells: models x levels of all kinds x draws."""
        return len(self.models) * self.draws * sum(len(self.levels(kind)) for kind in self.kinds)

    # Results

    @cached_property
    def labels(self) -> NDArray[np.int16]:
        """True labels `(n,)`."""
        with using(self.path):
            (blob,) = self._connection.execute("SELECT labels FROM labels").fetchone()
            return unpack(blob)["labels"]

    def done(self) -> set[Cell]:
        """Return the keys (model, kind, level, draw) of the finished cells."""
        with using(self.path):
            return set(self._connection.execute("SELECT model, kind, level, draw FROM cells"))

    def outcome(self, model: str, kind: str, level: float, draw: int) -> Outcomes:
        """Return a cell's arrays `(n,)` over the samples, at least `prediction` (int16).

        Raises `UserError` where the cell is not finished.
        """
        query = "SELECT outcomes FROM cells WHERE (model, kind, level, draw) = (?, ?, ?, ?)"
        with using(self.path):
            for (blob,) in self._connection.execute(query, (model, kind, level, draw)):
                return unpack(blob)
        raise UserError(
            f"{self.path}: the cell {model}, {kind} {level:g}, draw {draw} is not finished; "
            f"resume with: {self.provenance['command_line']}"
        )

    def correct(self, model: str, kind: str, level: float) -> NDArray[np.bool_]:
        """Return which samples are classified correctly, bool `(finished draws, n)`."""
        rows = self._cells("outcomes", model, kind, level)
        correct = np.empty((len(rows), len(self.labels)), np.bool_)
        with using(self.path):
            for row, (blob,) in zip(correct, rows, strict=True):
                row[:] = unpack(blob)["prediction"] == self.labels
        return correct

    def not_finite(self, model: str, kind: str, level: float) -> NDArray[np.int64]:
        """Return the number of predictions without finite logits, int64 `(finished draws,)`."""
        rows = self._cells("outcomes", model, kind, level)
        with using(self.path):
            return np.array([(unpack(blob)["prediction"] < 0).sum() for (blob,) in rows], np.int64)

    def seconds(self, model: str, kind: str, level: float) -> float:
        """Return the wall time of a level, summed over its finished draws."""
        return float(sum(seconds for (seconds,) in self._cells("seconds", model, kind, level)))

    def forwards(self, model: str, kind: str, level: float) -> int:
        """Return the number of forward passes (images) at a level, summed over its finished draws."""
        return sum(forwards for (forwards,) in self._cells("forwards", model, kind, level))

    def backwards(self, model: str, kind: str, level: float) -> int:
        """Return the number of backward passes (images) at a level, summed over its finished draws."""
        return sum(backwards for (backwards,) in self._cells("backwards", model, kind, level))

    def pictures(self) -> list[Picture]:
        """Return one image of each kind at several levels, ascending; empty for an unfinished run."""
        with using(self.path):
            rows = self._connection.execute(
                "SELECT kind, level, sample, label, png FROM pictures ORDER BY kind, level"
            ).fetchall()
        return [Picture(*row) for row in rows]

    def _cells(self, columns: str, model: str, kind: str, level: float) -> list[Any]:
        query = f"SELECT {columns} FROM cells WHERE model = ? AND kind = ? AND level = ?"
        with using(self.path):
            return self._connection.execute(f"{query} ORDER BY draw", (model, kind, level)).fetchall()

    # Writing

    def add(self, cell: Cell, outcomes: Outcomes, *, forwards: int, backwards: int, seconds: float) -> None:
        """Commit one finished cell; a committed cell survives kill -9 and power loss."""
        prediction = outcomes["prediction"]
        correct = int((prediction == self.labels).sum())
        values = (len(prediction), correct, forwards, backwards, seconds, now(), pack(outcomes))
        with using(self.path), self._connection:
            self._connection.execute(
                "INSERT INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*cell, *values)
            )

    def add_pictures(self, pictures: list[Picture]) -> None:
        """Commit the pictures of the report, replacing earlier ones."""
        rows = [(p.kind, p.level, p.sample, p.label, p.png) for p in pictures]
        with using(self.path), self._connection:
            self._connection.execute("DELETE FROM pictures")
            self._connection.executemany("INSERT INTO pictures VALUES (?, ?, ?, ?, ?)", rows)

    def save_record(self) -> None:
        """Write run.json of an unfinished run again, with its present flags."""
        write_record(self.path, self.provenance)

    def finish(self, *, end: str | None = None) -> None:
        """Write the end time (ISO 8601, by default now) into run.json; the run is read-only afterwards."""
        self._connection.close()  # merges the write-ahead log into the database
        self.provenance["finished"] = end or now()
        write_record(self.path, self.provenance)
        self._connection = database.connect(self.path, finished=True)


def _existing(path: Path, new: dict[str, Any]) -> dict[str, Any] | None:
    """Return the stored record in `path`, or `None` if the folder is free for the run of the record `new`.

    Raises `UserError` for a file, a folder with other contents, or a run of another configuration.
    """
    if not path.exists():
        return None
    if not path.is_dir():
        raise UserError(f"--out: got {path}, which is a file; {LEGAL_FOLDERS}")
    names = {entry.name for entry in path.iterdir() if not is_temporary(entry.name)}
    if RECORD not in names:
        foreign = sorted(names - OURS) or sorted(names & {database.FILE})
        if foreign:
            raise UserError(f"--out: got {path}, which has {foreign[0]!r} and no {RECORD}; {LEGAL_FOLDERS}")
        return None
    provenance, config = read_record(path), new["config"]
    if digest(provenance["config"]) != digest(config):
        differ = [key for key in config if provenance["config"].get(key) != config[key]]
        raise UserError(
            f"--out: got {path}, which holds a run of another configuration (different: "
            f"{', '.join(differ)}); {LEGAL_FOLDERS}"
        )
    answers.check(path, provenance, new)
    return provenance
