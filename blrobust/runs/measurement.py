"""A measurement in a folder that can be resumed: one JSON file of its configuration and its results."""

import contextlib
import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock

from blrobust.atomic_write import is_temporary, write_text
from blrobust.errors import UserError, reason
from blrobust.runs import LEGAL_FOLDERS, answers
from blrobust.runs.lock import LOCK, acquire
from blrobust.runs.provenance import digest, now

if TYPE_CHECKING:
    import pandas as pd

FILE = "measurement.json"


class Measurement:
    """The measurement of a heat map or a recovery: its record, and its finished pieces by name.

    The record is that of `provenance.new_record`. `put` returns after the piece is completely written to
    disk. A context manager: the end of the context releases the lock of the folder. Raises `UserError` for
    a folder with other contents, or of models with other logits (`runs.answers`), and if another process
    writes to it.
    """

    @classmethod
    def begin(cls, out: Path | None, record: dict[str, Any]) -> Self:
        """Begin or resume the measurement of `record` in `out`, by default in `runs/<command>-<hash>`."""
        name = f"{record['config']['command']}-{record['hash'][:12]}"
        return answers.begin(out, name, lambda folder: cls(folder, record))

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        """Begin or resume the measurement of `record` in `folder`; lock the folder unless it is finished."""
        self.folder = folder
        self.file = self.folder / FILE
        self.record = record
        self.done: dict[str, Any] = {}
        self._lock: FileLock | None = None
        existing = self._existing(record)
        if existing is not None and existing["finished"] is not None:
            self._take_over(existing)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = acquire(folder / LOCK, f"{folder}: another process is working on this measurement")
        with contextlib.ExitStack() as stack:
            stack.callback(lock.release)
            existing = self._existing(record)  # it may have changed before the lock
            if existing is not None:
                if existing["finished"] is None:
                    existing["sessions"] += record["sessions"]
                self._take_over(existing)
            self._write()
            stack.pop_all()
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    def put(self, name: str, value: Any) -> None:
        """Store the result (plain JSON) of a piece."""
        self.done[name] = value
        self._write()

    def write_csv(self, name: str, table: "pd.DataFrame") -> None:
        """Write a table to a file of the folder, whole or not at all."""
        write_text(self.folder / name, table.to_csv(index=False, lineterminator="\n"))

    def finish(self) -> None:
        """Store the end time, once."""
        if self.record["finished"] is None:
            self.record["finished"] = now()
            self._write()

    def _existing(self, new: dict[str, Any]) -> dict[str, Any] | None:
        """Return the stored record and results, or `None` if the folder is free for the record `new`."""
        if not self.file.is_file():
            if self.folder.exists() and (
                not self.folder.is_dir() or any(map(_is_foreign, self.folder.iterdir()))
            ):
                raise UserError(f"--out: got {self.folder}, which has no {FILE}; {LEGAL_FOLDERS}")
            return None
        try:
            found: dict[str, Any] = json.loads(self.file.read_text("utf-8"))
            if digest(found["config"]) != found["hash"] or not isinstance(found["done"], dict):
                raise ValueError("checksum mismatch")
            _ = found["sessions"], found["finished"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.file} is corrupt: {reason(error)}") from None
        if found["hash"] != new["hash"]:
            raise UserError(
                f"--out: got {self.folder}, which holds another measurement ({found['command_line']}); "
                f"{LEGAL_FOLDERS}"
            )
        answers.check(self.folder, found, new)
        return found

    def _take_over(self, existing: dict[str, Any]) -> None:
        """Use a stored record and its results."""
        self.done = existing.pop("done")
        # A measurement begun without answers has those of the models that finish it.
        self.record = existing if existing["finished"] is not None else {**self.record, **existing}

    def _write(self) -> None:
        write_text(self.file, json.dumps({**self.record, "done": self.done}, allow_nan=False) + "\n")


def _is_foreign(path: Path) -> bool:
    """Return whether `path` is not one of the files that a kill before the first record leaves."""
    return path.name != LOCK and not is_temporary(path.name)
