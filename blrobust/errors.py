"""The exceptions that the command line prints, a line each, with exit code 2."""

import traceback
from collections.abc import Sequence
from pathlib import Path

LONGEST = 200  # characters of another library's message


class UserError(ValueError):
    """A user's mistake; the message names the argument, its value and the legal values."""


class FailedPartsError(UserError):
    """Independent parts of a measurement that failed, one of the `lines` each.

    The results of the others are in `folder`; it is None where there are none.
    """

    def __init__(self, lines: Sequence[str], folder: Path | None = None) -> None:
        self.folder = folder
        end = "" if folder is None else f"; the other results are in {folder}"
        self.lines = [*lines[:-1], f"{lines[-1]}{end}"]
        super().__init__("; ".join(self.lines))


def reason(error: BaseException) -> str:
    """Return the message of another library's error as one line, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def describe(error: BaseException) -> str:
    """Return the type and the message of an error as one line, at most about 200 characters.

    An error without a message has the place in the user's code that raised it. Of a message with a traceback,
    as of TorchScript, the last line is kept.
    """
    name, text = type(error).__name__, str(error).strip()
    if not text:
        place = _place(error)
        return f"{name} at {place}" if place else name
    if "Traceback" in text:
        text = text.splitlines()[-1]
    return f"{name}: {shortened(text.removeprefix(f'{name}: '))}"


def shortened(text: str) -> str:
    """Return the text as one line of at most 200 characters; a longer one ends in three dots."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4].rstrip()} ..."


def _place(error: BaseException) -> str | None:
    """Return `FILE:LINE` of the last frame of an error outside of blrobust and of installed packages."""
    roots = (str(Path(__file__).parent), str(Path(traceback.__file__).parent), "<")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(roots) and "site-packages" not in frame.filename
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None
