"""Exceptions whose messages the command line prints, with exit code 2."""

from collections.abc import Sequence
from pathlib import Path


class UserError(ValueError):
    """A user's mistake; the message names the argument, its value and the legal values."""


class FailedPartsError(UserError):
    """Independent parts of a measurement failed; `lines` has a message for each failed part.

    `folder` has the results of the other parts; it is None if there are no results.
    """

    def __init__(self, lines: Sequence[str], folder: Path | None = None) -> None:
        self.folder = folder
        end = "" if folder is None else f"; the other results are in {folder}"
        self.lines = [*lines[:-1], f"{lines[-1]}{end}"]
        super().__init__("; ".join(self.lines))


def reason(error: BaseException) -> str:
    """Return the message of another library's error as one line, or the type if there is no message."""
    return " ".join(str(error).split()) or type(error).__name__
