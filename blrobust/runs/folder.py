"""The names of the files in a run folder, and the check whether a run may use a folder."""

from pathlib import Path

from blrobust.atomic_write import is_temporary
from blrobust.errors import UserError
from blrobust.runs import LEGAL_FOLDERS, answers, database_files
from blrobust.runs.configuration import Sweep
from blrobust.runs.lock import LOCK
from blrobust.runs.record import ANCIENT, Record
from blrobust.runs.record import FILE as RECORD

RESULTS = "results.csv"
REPORT = "report.html"
ADVERSARIALS = "adversarials"  # subfolder for adversarial inputs, made by --save-adversarials
OURS = {LOCK, ADVERSARIALS, RECORD, RESULTS, REPORT, *database_files.FILES}


def stored_record(path: Path, new: Record) -> Record | None:
    """Return the record of the run in the folder `path`, or None if there is no run.

    `new` is the record of the run that is to use the folder. Raises `UserError` if `path` is a file, a folder
    with other files, or a folder with a run of another configuration. Raises `OtherModelError` if the folder
    has a run of models with other logits or gradients.
    """
    if not path.exists():
        return None
    if not path.is_dir():
        raise UserError(f"out: got {path}, which is a file; {LEGAL_FOLDERS}")
    names = {entry.name for entry in path.iterdir() if not is_temporary(entry.name)}
    if not names & {RECORD, ANCIENT}:
        foreign = sorted(names - OURS) or sorted(names & {database_files.FILE})
        if foreign:
            raise UserError(f"out: got {path}, which has {foreign[0]!r} and no {RECORD}; {LEGAL_FOLDERS}")
        return None
    record = Record.read(path)
    if record.hash != new.hash:
        old, config = record.config.encode(), new.config.encode()
        differ = [key for key in old | config if old.get(key) != config.get(key)]
        raise UserError(
            f"out: got {path}, which holds a run of another configuration (different: "
            f"{', '.join(differ)}); {LEGAL_FOLDERS}"
        )
    answers.check(path, record.answers, new.answers, record.flags)
    return record


def default_name(record: Record) -> str:
    """Return the name of the folder in `runs` that a run has by default, such as heatmap-0123456789ab."""
    prefix = "" if isinstance(record.config, Sweep) else f"{record.config.command}-"
    return f"{prefix}{record.hash[:12]}"
