"""The history of a training: a CSV file with a row for each epoch."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from blrobust import atomic_write
from blrobust.errors import UserError, reason, shorten
from blrobust.regular_file import read_bytes

COLUMNS = ["epoch", "lr", "loss", "train_accuracy", "test_accuracy", "holdout_accuracy", "seconds"]
ADDED = {"train_accuracy", "test_accuracy"}  # columns that a history may lack; their values are empty then
MOST_HISTORY = 2**25  # bytes; a row has about 60


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a history by `COLUMNS`; raise `UserError` for a file that is not one."""
    try:
        text = read_bytes(path, most=MOST_HISTORY).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except UserError:
        raise
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a history: {shorten(reason(error))}") from None
    for row in rows:
        known = [column for column in COLUMNS if column in row or column not in ADDED]
        if list(row) != known or None in row.values():
            raise UserError(f"{path}: got a row {shorten(repr(row))}; legal: {', '.join(COLUMNS)}")
    return [{column: row.get(column, "") for column in COLUMNS} for row in rows]


def write(path: Path, rows: list[dict[str, str]], check: Callable[[], None]) -> None:
    """Write a history to `path`, whole or not at all; `check` is called before."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.write_text(path, text.getvalue(), check=check)
