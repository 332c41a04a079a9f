"""Reading of regular files of bounded size, from folders that others may have written."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from blrobust.errors import UserError

# Opening a pipe without a writer then returns at once, and a terminal does not become that of the process.
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


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
