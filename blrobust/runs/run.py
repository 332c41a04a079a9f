"""A run folder, with the files run.json, run.sqlite, results.csv and report.html, and a lock for writing.

A cell is the result of one model (or other subject) for one kind of perturbation, at one level, in one draw
(repetition).
"""

import contextlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from blrobust.atomic_write import write_text
from blrobust.errors import UserError
from blrobust.runs import answers, row_count
from blrobust.runs.configuration import Configuration, Sweep
from blrobust.runs.database import Cell, Database, Key, Picture
from blrobust.runs.database_files import FILE as DATABASE
from blrobust.runs.folder import RESULTS, default_name, stored_record
from blrobust.runs.held_file import HeldFile
from blrobust.runs.lock import LOCK, acquire
from blrobust.runs.new_cell import NewCell
from blrobust.runs.packed_arrays import Outcomes
from blrobust.runs.provenance import now
from blrobust.runs.record import FILE as RECORD
from blrobust.runs.record import Card, Record

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """A run folder, open for reading, and for writing if this process has the lock of the folder.

    A run is a context manager, whose end closes the database and releases the lock. If the folder is moved or
    replaced while it is open, writing raises `OSError`.
    """

    def __init__(self, path: Path, record: Record, data: Database, lock: FileLock | None = None) -> None:
        """Store the arguments; use `open`, `begin` or `create_or_resume` to open a run."""
        self.path = path
        self.record = record
        self._database = data
        self._lock = lock
        # The database of a writer is closed before its last write.
        self._held = HeldFile(path / (DATABASE if lock is None else LOCK))
        self._latest: tuple[tuple[str, str, float], list[Cell]] | None = None  # the cells that were read last

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the run in the folder `path`, open for reading.

        Raises `UserError` if `path` is not a run folder, or if its files are missing, damaged or incomplete.
        """
        record = Record.read(path)
        finished = record.finished is not None
        run = cls(path, record, Database.connect(path, record.id, finished=finished))
        try:
            run.done()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def begin(cls, out: Path | None, record: Record, labels: NDArray[np.int16]) -> Self:
        """Begin or resume a run in the folder `out`, by default in runs/HASH (see `create_or_resume`).

        HASH is the start of the record's hash. For a heat map or a recovery, the name of the command precedes
        it. If the default folder has a run of models with other logits or gradients, a suffix such as -2 is
        added.
        """
        name = default_name(record)
        return answers.begin(out, name, lambda folder: cls.create_or_resume(folder, record, labels))

    @classmethod
    def create_or_resume(cls, path: Path, record: Record, labels: NDArray[np.int16]) -> Self:
        """Return the run in the folder `path`, open for writing; create it if there is no run.

        A new run stores `record` and the true `labels` int16 (n,) of the images. An existing run must have
        the same configuration. It gets the session of `record`, and also the answers (logits of the models
        for fixed inputs) if it has none. A finished run is returned read-only and unchanged.

        Raises `UserError` for a folder with other files or another configuration, and if another process
        writes to it. Raises `OtherModelError` for a run of models with other logits or gradients.
        """
        existing = stored_record(path, record)
        if existing is not None and existing.finished is not None:
            return cls.open(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = acquire(path / LOCK, f"{path}: another process is working on this run")
        with contextlib.ExitStack() as stack:
            stack.callback(lock.release)
            existing = stored_record(path, record)  # another process may have changed it before the lock
            if existing is not None:
                if existing.finished is not None:
                    return cls.open(path)
                existing.sessions.extend(record.sessions)
                # Runs of early builds have no answers; those of the present models are stored.
                existing.answers = existing.answers or record.answers
                record = existing
            check = HeldFile(path / LOCK).check
            record.write(path, check=check)
            data = Database.create(path, record.id, labels, check=check)
            stack.callback(data.close)
            run = cls(path, record, data, lock)
            run.done()
            stack.pop_all()
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def check(self) -> None:
        """Raise `OSError` if the folder at `path` is no longer the one that was opened."""
        self._held.check()

    def close(self) -> None:
        """Close the database and release the lock."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    # Configuration

    @property
    def config(self) -> Configuration:
        """The configuration, whose hash identifies the measurement."""
        return self.record.config

    @property
    def sweep(self) -> Sweep:
        """The configuration of a run of noise or attacks; raises `UserError` for other runs."""
        if not isinstance(self.config, Sweep):
            raise UserError(f"{self.path}: got a run of {self.config.command}; legal: noise or attack")
        return self.config

    @property
    def finished(self) -> bool:
        """Whether the run is finished, with all cells and results.csv."""
        return self.record.finished is not None

    @property
    def models(self) -> list[str]:
        """The labels of the models, in the order of run.json."""
        return [card.label for card in self.record.models]

    @property
    def cards(self) -> dict[str, Card]:
        """The cards of the models (facts about them), by label."""
        return {card.label: card for card in self.record.models}

    @cached_property
    def grids(self) -> Mapping[str, list[float]]:
        """The levels of each kind of perturbation, ascending."""
        return self.config.grids

    @property
    def kinds(self) -> list[str]:
        """The kinds of perturbation that the run measures."""
        return list(self.grids)

    def levels(self, kind: str) -> list[float]:
        """Return the levels of a kind, ascending; raise `UserError` if the run does not measure the kind."""
        if kind not in self.grids:
            raise UserError(f"kind: got {kind!r} in {self.path}; legal: {', '.join(self.kinds)}")
        return list(self.grids[kind])

    @property
    def draws(self) -> int:
        """The number of draws per image and level."""
        return self.config.draws

    @property
    def cells(self) -> int:
        """The number of cells, finished or not: subjects x levels of all kinds x draws."""
        return len(self.config.subjects) * self.draws * sum(map(len, self.grids.values()))

    # Results

    @cached_property
    def labels(self) -> NDArray[np.int16]:
        """The true labels int16 (n,); raises `UserError` if they do not fit run.json."""
        data = self.record.dataset
        labels = self._database.labels(data.n)
        if labels.shape != (data.n,) or labels.min() < 0 or labels.max() >= len(data.classes):
            raise self._refusal(f"the labels do not fit {RECORD}")
        return labels

    def done(self) -> set[Key]:
        """Return the keys (model, kind, level, draw) of the finished cells.

        Raises `UserError` if a cell is not part of the run, or if cells of a finished run are missing.
        """
        done, subjects = self._database.keys(), set(self.config.subjects)
        drawn = range(self.draws)
        for model, kind, level, draw in done:
            if model not in subjects or level not in self.grids.get(kind, ()) or draw not in drawn:
                raise self._refusal(f"the cell {(model, kind, level, draw)} is not part of the run")
        if self.finished and len(done) < self.cells:
            raise self._refusal(f"it has {len(done):,} of {self.cells:,} cells")
        return done

    def outcome(self, model: str, kind: str, level: float, draw: int) -> Outcomes:
        """Return the arrays (n,) of a cell by name, at least "prediction" (int16); n is the number of images.

        Raises `UserError` if the cell is not finished. docs/results.md lists the arrays.
        """
        for cell in self._cells(model, kind, level):
            if cell.draw == draw:
                return cell.outcomes
        raise UserError(
            f"{self.path}: the cell {model}, {kind} {level:g}, draw {draw} is not finished; "
            f"resume with: {self.record.command_line}"
        )

    def correct(self, model: str, kind: str, level: float) -> NDArray[np.bool_]:
        """Return whether each image is classified correctly, bool (finished draws, n)."""
        rows = [cell.outcomes["prediction"] == self.labels for cell in self._cells(model, kind, level)]
        return np.stack(rows) if rows else np.empty((0, len(self.labels)), np.bool_)

    def not_finite(self, model: str, kind: str, level: float) -> NDArray[np.int64]:
        """Return the number of images with logits that are not all finite, int64 (finished draws,)."""
        counts = [(cell.outcomes["prediction"] < 0).sum() for cell in self._cells(model, kind, level)]
        return np.array(counts, np.int64)

    def seconds(self, model: str, kind: str, level: float) -> float:
        """Return the wall time of a level in seconds, summed over its finished draws."""
        return float(sum(cell.seconds for cell in self._cells(model, kind, level)))

    def total_seconds(self) -> float:
        """Return the wall time of all finished cells in seconds, over all sessions."""
        return self._database.seconds()

    def forwards(self, model: str, kind: str, level: float) -> int:
        """Return the number of images in forward passes at a level, summed over its finished draws."""
        return sum(cell.forwards for cell in self._cells(model, kind, level))

    def backwards(self, model: str, kind: str, level: float) -> int:
        """Return the number of images in backward passes at a level, summed over its finished draws."""
        return sum(cell.backwards for cell in self._cells(model, kind, level))

    def pictures(self) -> list[Picture]:
        """Return the stored pictures of the report, in ascending order of kind and level."""
        return self._database.pictures()

    def _cells(self, model: str, kind: str, level: float) -> list[Cell]:
        key = (model, kind, level)
        if self._latest is None or self._latest[0] != key:
            self._latest = key, self._database.cells(*key, self.labels)
        return self._latest[1]

    def _refusal(self, problem: str) -> UserError:
        return UserError(f"{self.path / DATABASE} cannot be used: {problem}")

    # Writing

    def add(self, key: Key, outcomes: Outcomes, *, forwards: int, backwards: int, seconds: float) -> None:
        """Commit one finished cell: arrays (n,), numbers of images in passes, and wall time in seconds."""
        self.add_all([NewCell(key, outcomes, forwards, backwards, seconds)])

    def add_all(self, cells: Iterable[NewCell]) -> None:
        """Commit finished cells in one transaction; they survive a killed process and a power failure."""
        self._latest, time = None, now()
        self._database.add(cell.row(self.labels, time) for cell in cells)
        self.check()  # the cells are stored, wherever the folder is

    def add_pictures(self, pictures: list[Picture]) -> None:
        """Commit the pictures of the report; they replace all stored pictures."""
        self._database.add_pictures(pictures)

    def write_results(self, table: "pd.DataFrame") -> None:
        """Write a table to results.csv, completely or not at all."""
        content = table.to_csv(index=False, lineterminator="\n")
        write_text(self.path / RESULTS, content, check=self.check)

    def save_record(self) -> None:
        """Write run.json again from the record in memory, for example after flags were added."""
        self.record.write(self.path, check=self.check)

    def finish(self, *, end: str | None = None) -> None:
        """Write the time of the end (ISO 8601, by default now) into run.json, and make the run read-only."""
        self._database.close()  # SQLite merges the write-ahead log into the database
        self.record.finished = end or now()
        self.save_record()
        row_count.remove(self.path)
        self._database = Database.connect(self.path, self.record.id, finished=True)
