"""Warnings, and output that a user's model prints: repetitions from one line of code are only counted."""

import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, get_ident
from typing import Any, TextIO

from blrobust import errors
from blrobust.errors import LONGEST, shorten
from blrobust.escaping import escape_lines, one_line
from blrobust.terminal import echo

NUMBERS = re.compile(r"[\d.,+\-\s]*\d[\d.,+\-\s]*(?:e[+-]?\d+)?")
STREAMS = ("stdout", "stderr")
PASSED = ("bdb", "cmd", "pdb", "blrobust.terminal")  # modules whose output is never dropped

_repeats: Counter[str] = Counter()  # by the origin and the text without its numbers, of this command
_lock = Lock()
_threads: list[int] = []  # those in `prints_counted`, with repetitions
_replaced: dict[str, TextIO] = {}  # the streams before the first of them
_is_command = False  # all threads are those of models, and not of the caller of a Python function


def masked(text: str) -> str:
    """Return the text with `#` in place of every number."""
    return NUMBERS.sub(" # ", text).strip()


@contextmanager
def warnings_counted() -> Iterator[None]:
    """Print each warning as one line on stderr, but only the first warning of each line of code.

    At the end of the context, the number of further warnings of each line of code is printed, and the number
    of lines that `prints_counted` has dropped.
    """
    global _is_command
    before, was_command = warnings.showwarning, _is_command

    def show(message, category, filename, lineno, file=None, line=None) -> None:  # type: ignore[no-untyped-def]
        if _is_new(f"{category.__name__} at {_place(filename, lineno)}"):
            problem = shorten(one_line(errors.message(message)), LONGEST)
            echo(f"{_place(filename, lineno)}: {category.__name__}: {problem}", err=True)

    _repeats.clear()
    warnings.showwarning, _is_command = show, True
    try:
        yield
    finally:
        warnings.showwarning, _is_command = before, was_command
        for cause, count in _repeats.items():
            if count > 1:
                echo(one_line(f"{cause}: {count - 1:,} more"), err=True)


@contextmanager
def prints_counted() -> Iterator[None]:
    """Drop lines printed in the context that differ from an earlier line of the same code only in numbers.

    The other lines are printed with control characters as escape sequences (`escape_lines`).
    """
    _begin()
    try:
        yield
    finally:
        _end()


def _begin() -> None:
    """Replace stdout and stderr, unless another thread or the code around the context has."""
    with _lock:
        if not _threads:
            for name in STREAMS:
                _replaced[name] = getattr(sys, name)
                setattr(sys, name, _Lines(_replaced[name]))
        _threads.append(get_ident())


def _end() -> None:
    """Restore stdout and stderr, unless another thread or the code around the context still prints."""
    with _lock:
        _threads.remove(get_ident())
        for name in STREAMS:
            if isinstance(lines := getattr(sys, name), _Lines):
                lines.end()
            if not _threads:
                setattr(sys, name, _replaced[name])


class _Lines:
    """A stream that drops a line of text if the same code has printed the same line with other numbers.

    Everything else is passed on to `stream`, and so is text from threads of the caller of a Python function.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""
        self._origin = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str, /) -> int:
        """Write the finished lines of the text unless they are dropped, and return the length of the text."""
        caller = sys._getframe(1)
        is_of_model = _is_command or get_ident() in _threads
        if not is_of_model or caller.f_globals.get("__name__") in PASSED:
            return self._stream.write(text)
        self._origin = _place(caller.f_code.co_filename, caller.f_lineno)
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._show(f"{line}\n")
        return len(text)

    def end(self) -> None:
        """Write the last line if it has no line feed yet."""
        if self._begun:
            self._show(self._begun)

    def close(self) -> None:
        """Do nothing, because others use the stream."""

    def _show(self, line: str) -> None:
        if _is_new(f"printed at {self._origin}: {masked(shorten(one_line(line), LONGEST))}"):
            self._stream.write(escape_lines(line))


def _place(file: str, line: int) -> str:
    return f"{Path(file).name}:{line}"


def _is_new(cause: str) -> bool:
    _repeats[cause] += 1
    return _repeats[cause] == 1
