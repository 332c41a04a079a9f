"""The number of rows of a database, in a file beside it, which reveals that SQLite lost rows.

SQLite ignores everything after the first damaged part of its write-ahead log. So finished cells in this part
would vanish without an error. The number is written after each commit and is not synced. So after a power
failure it can be too small, but it is never too large.
"""

from pathlib import Path

from blrobust.regular_file import read_bytes
from blrobust.runs.database_files import COUNT, LOG

MOST_BYTES = 100


class RowCount:
    """The file with the number of committed rows in a run folder, open for writing."""

    def __init__(self, folder: Path, rows: int) -> None:
        """Create the file, or replace the number in it."""
        self._file = (folder / COUNT).open("wb", buffering=0)
        self.write(rows)

    def write(self, rows: int) -> None:
        """Replace the number."""
        self.rows = rows
        self._file.seek(0)
        self._file.write(f"{rows:20}\n".encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(folder: Path) -> int:
    """Return the number in a run folder; it is 0 without the file, and if a kill left the file empty.

    Raises `ValueError` for a file without a number.
    """
    if not (folder / COUNT).exists():
        return 0
    text = read_bytes(folder / COUNT, most=MOST_BYTES)
    try:
        return int(text) if text else 0
    except ValueError:
        raise ValueError(f"{COUNT} is damaged") from None


def remove(folder: Path) -> None:
    """Remove the file from the folder of a finished run, which has no write-ahead log any more."""
    if not (folder / LOG).exists():  # else another process is reading
        (folder / COUNT).unlink(missing_ok=True)
