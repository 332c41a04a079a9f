"""The folder that a run would use, and how much of the run it already has; nothing is written."""

from pathlib import Path
from typing import NamedTuple

from blrobust.runs import answers
from blrobust.runs.database import Database
from blrobust.runs.database_files import FILE
from blrobust.runs.folder import default_name, stored_record
from blrobust.runs.record import Record
from blrobust.runs.run import Run


class Plan(NamedTuple):
    """The folder that a run would use, the number of its stored cells, and the number of all its cells.

    Both numbers are 0 if the folder has no run yet. `finished` is true if nothing is left to measure.
    """

    folder: Path
    done: int = 0
    cells: int = 0
    finished: bool = False


def plan(out: Path | None, record: Record) -> Plan:
    """Return the plan of the run that `Run.begin` would begin or resume in the folder `out`.

    Raises `UserError` if the folder cannot be used for this run.
    """
    return answers.begin(out, default_name(record), lambda folder: _planned(folder, record))


def _planned(folder: Path, record: Record) -> Plan:
    stored = stored_record(folder, record)
    was_killed_at_once = stored is not None and not stored.finished and not (folder / FILE).exists()
    if stored is None or was_killed_at_once:
        return Plan(folder)
    database = Database.connect(folder, stored.id, finished=True)  # which leaves no files behind
    with Run(folder, stored, database) as run:
        return Plan(folder, len(run.done()), run.cells, run.finished)
