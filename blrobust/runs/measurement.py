"""A measurement in a folder that can be resumed: one JSON file of its configuration and its results."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from blrobust.atomic_write import write_text
from blrobust.errors import UserError, reason
from blrobust.runs import LEGAL_FOLDERS, answers
from blrobust.runs.provenance import digest, now

if TYPE_CHECKING:
    import pandas as pd

FILE = "measurement.json"


class Measurement:
    """The measurement of a heat map or a recovery: its record, and its finished pieces by name.

    The record is that of `provenance.new_record`. `put` returns after the piece is completely written to
    disk. Raises `UserError` for a folder with other contents, or of models with other logits
    (`runs.answers`).
    """

    @classmethod
    def begin(cls, out: Path | None, record: dict[str, Any]) -> Self:
        """Begin or resume the measurement of `record` in `out`, by default in `runs/<command>-<hash>`."""
        name = f"{record['config']['command']}-{record['hash'][:12]}"
        return answers.begin(out, name, lambda folder: cls(folder, record))

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        """Begin or resume the measurement of `record` in `folder`."""
        self.folder = folder
        self.file = self.folder / FILE
        self.record = record
        self.done: dict[str, Any] = {}
        if self.file.is_file():
            self._resume()
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UserError(f"--out: got {self.folder}, which has no {FILE}; {LEGAL_FOLDERS}")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def put(self, name: str, value: Any) -> None:
        """Store the result (plain JSON) of a piece."""
        self.done[name] = value
        self._write()

    def write_csv(self, name: str, table: "pd.DataFrame") -> None:
        """Write a table to a file of the folder, whole or not at all."""
        write_text(self.folder / name, table.to_csv(index=False, lineterminator="\n"))

    def finish(self) -> None:
        """Store the end time, once."""
        self.record["finished"] = self.record["finished"] or now()
        self._write()

    def _resume(self) -> None:
        try:
            found = json.loads(self.file.read_text("utf-8"))
            done = found.pop("done")
            if digest(found["config"]) != found["hash"] or not isinstance(done, dict):
                raise ValueError("checksum mismatch")
            sessions, finished = found["sessions"], found["finished"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.file} is corrupt: {reason(error)}") from None
        if found["hash"] != self.record["hash"]:
            raise UserError(
                f"--out: got {self.folder}, which holds another measurement ({found['command_line']}); "
                f"{LEGAL_FOLDERS}"
            )
        answers.check(self.folder, found, self.record)
        if finished is None:
            sessions += self.record["sessions"]
            # A measurement begun without answers has those of the models that finish it.
            found = {**self.record, **found}
        self.record, self.done = found, done
        self._write()

    def _write(self) -> None:
        write_text(self.file, json.dumps({**self.record, "done": self.done}, allow_nan=False) + "\n")
