"""Regular files in folders that others may have written: the check for them, and reading of bounded size."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from blrobust.errors import UserError

ABSENT = "which does not exist"

# Opening a pipe without a writer then returns at once, and a terminal does not become that of the process.
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def problem_of(path: Path) -> str | None:
    """Return the reason why `path` is not a regular file, as the end of a sentence; None if it is one.

    Links are followed. Devices and pipes are not regular files: reading them may never end.
    """
    if path.is_file():
        return None
    if path.is_dir():
        return "which is a folder"
    return "which is not a regular file" if path.exists() else ABSENT


def check_file_or_none(path: Path) -> None:
    """Raise `UserError` if `path` is a link, a folder, a pipe or a device, and not a file or absent.

    Code that opens the file itself would write to the target of the link, or would never return.
    """
    problem = "which is a link" if path.is_symlink() else problem_of(path)
    if problem not in (None, ABSENT):
        raise UserError(f"{path.parent}: got {path.name}, {problem}; legal: a regular file, or none")


@contextmanager
def opened(path: Path, *, most: int | None = None) -> Iterator[BufferedReader]:
    """Return a context with the regular file `path`, open for reading.

    Raises `UserError` if `path` is a pipe, a device or a folder, or has more than `most` bytes. Raises
    `OSError` if it cannot be opened.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _FLAGS)) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise UserError(f"{path}: got a pipe or a device; legal: a regular file")
        if most is not None and state.st_size > most:
            raise UserError(f"{path}: got {state.st_size:,} bytes; legal: at most {most:,}")
        yield file


def read_bytes(path: Path, *, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes; raises the errors of `opened`."""
    with opened(path, most=most) as file:
        content = file.read(most + 1)  # the size of a file in /proc is not known before
    if len(content) > most:
        raise UserError(f"{path}: got more than {most:,} bytes; legal: at most {most:,}")
    return content
