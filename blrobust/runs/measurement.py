"""A measurement in a folder that goes on where it stopped: one JSON file of what was asked and is done."""

import json
from pathlib import Path
from typing import Any

from blrobust.atomic_write import write_text
from blrobust.errors import UserError, reason
from blrobust.runs import RUNS
from blrobust.runs.provenance import digest, now

FILE = "measurement.json"


class Measurement:
    """The record of a measurement (``provenance.new_record``) and its finished pieces, by name.

    Every `put` is on the disk, whole, before it returns. Raises ``UserError`` for a folder that
    holds something else.
    """

    def __init__(self, folder: Path | None, record: dict[str, Any]) -> None:
        """Begin ``record`` in ``folder`` (``runs/<command>-<hash>`` by default), or go on with it."""
        config = record["config"]
        self.folder = RUNS / f"{config['command']}-{record['hash'][:12]}" if folder is None else folder
        self.file = self.folder / FILE
        self.record = record
        self.done: dict[str, Any] = {}
        if self.file.is_file():
            self._resume()
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UserError(f"{self.folder} is no empty folder and holds no {FILE}: choose another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def put(self, name: str, value: Any) -> None:
        """Keep the result (plain JSON) of a piece."""
        self.done[name] = value
        self._write()

    def finish(self) -> None:
        """Note the end time, once."""
        self.record["finished"] = self.record["finished"] or now()
        self._write()

    def _resume(self) -> None:
        try:
            found = json.loads(self.file.read_text("utf-8"))
            done = found.pop("done")
            if digest(found["config"]) != found["hash"] or not isinstance(done, dict):
                raise ValueError("its hash is another")
            sessions, finished = found["sessions"], found["finished"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.file} is corrupt: {reason(error)}") from None
        if found["hash"] != self.record["hash"]:
            raise UserError(f"{self.folder} holds another measurement ({found['command_line']}): give --out")
        if finished is None:
            sessions += self.record["sessions"]
        self.record, self.done = found, done
        self._write()

    def _write(self) -> None:
        write_text(self.file, json.dumps({**self.record, "done": self.done}, allow_nan=False) + "\n")
