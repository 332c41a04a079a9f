"""The names of the files of a database in a run folder, and the check before SQLite opens them."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from blrobust.errors import UserError
from blrobust.regular_file import check_file_or_none

FILE = "run.sqlite"
LOG = f"{FILE}-wal"  # the write-ahead log
COUNT = f"{FILE}-rows"  # the number of rows (`row_count`)
FILES = (FILE, LOG, f"{FILE}-shm", COUNT)
JOURNAL = f"{FILE}-journal"


def check_files(folder: Path) -> None:
    """Raise `UserError` if a link, a folder or a pipe is in the place of a file of the database in `folder`.

    Raises it for a rollback journal too. blrobust writes none. SQLite would change the database according to
    the journal, and would remove a file that the journal names.
    """
    for name in FILES:
        check_file_or_none(folder / name)
    if os.path.lexists(folder / JOURNAL):
        raise UserError(f"{folder}: got {JOURNAL}, which blrobust does not write; legal: a run without it")


def has_tables(file: Path) -> bool:
    """Return whether `file` is a database with tables; the result is False if there is no file."""
    if not file.exists():
        return False
    with closing(sqlite3.connect(file)) as connection:
        return bool(connection.execute("SELECT name FROM sqlite_master").fetchall())
