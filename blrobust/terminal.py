"""The standard streams of the `blrobust` command, on which no write fails.

Characters that the encoding lacks are escaped, and output that the device refuses is dropped.
"""

import io
import os
import sys
from typing import TextIO

from blrobust.escaping import escape


class _Device(io.RawIOBase):
    """A stream on a file descriptor that drops all output that its device refuses."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data, /) -> int:  # type: ignore[no-untyped-def]  # any buffer
        """Return the number of bytes that were written or dropped."""
        try:
            return os.write(self._number, data)
        except OSError:  # a full disk, a reader that is gone, a terminal that was closed
            return len(data)


def protect_streams() -> None:
    """Replace stdout and stderr by streams on the same devices whose writes cannot fail.

    Characters that the encoding lacks are written as escape sequences. A standard descriptor that is closed
    is opened on the null device. Otherwise the next file to be opened, such as a database, would get its
    number. Streams that were replaced before, as by a test, are not changed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.stderr)


def _stream(number: int, before: TextIO | None) -> TextIO:
    device = _Device(number)
    return io.TextIOWrapper(
        io.BufferedWriter(device),
        encoding="utf-8" if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=number == 2 or device.isatty(),
    )


def echo(text: str, *, err: bool = False) -> None:
    """Print the text as one line on stdout, or on stderr with `err`, with control characters escaped."""
    print(escape(text), file=sys.stderr if err else sys.stdout, flush=True)
