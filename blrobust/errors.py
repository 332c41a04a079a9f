"""Exceptions whose messages the command line prints, with exit code 2."""

import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from blrobust.escaping import one_line

LONGEST = 200  # characters of another library's message


class UserError(ValueError):
    """A user's mistake; the message names the argument, its value and the legal values.

    The message is one line without control characters. It begins with the name of an argument of a Python
    function; on the command line, the name of the option takes its place.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class FailedPartsError(UserError):
    """Some parts of a measurement failed; `lines` has a message for each failed part.

    `folder` has the results of the other parts; it is None if there are no results.
    """

    def __init__(self, lines: Sequence[str], folder: Path | None = None) -> None:
        self.folder = folder
        end = "" if folder is None else f"; the other results are in {folder}"
        self.lines = [*lines[:-1], f"{lines[-1]}{end}"]
        super().__init__("; ".join(self.lines))


def message(error: BaseException) -> str:
    """Return the message of an error, unchanged; it is empty if the error's own code fails to return one."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises
        return ""


def reason(error: BaseException) -> str:
    """Return the message of another library's error as one line, or the type if there is no message."""
    return " ".join(message(error).split()) or type(error).__name__


def describe(error: BaseException) -> str:
    """Return the type and the message of an error as one line; the message is cut after `LONGEST` characters.

    If the error has no message, the line has the place in the user's code that raised it. If the message
    contains a traceback, as errors of TorchScript do, only its last line is kept.
    """
    name, text = type(error).__name__, message(error).strip()
    if not text:
        place = _place(error)
        return f"{name} at {place}" if place else name
    if "Traceback" in text:
        text = text.splitlines()[-1]
    return f"{name}: {shorten(' '.join(text.removeprefix(f'{name}: ').split()), LONGEST)}"


def shorten(text: str, most: int = 300) -> str:
    """Return the text, or its first `most` characters and its length if it is longer."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def shown(value: object) -> str:
    """Return the text of an illegal value for a message.

    Texts, bytes, numbers, paths and None are written as in Python, and shortened. For other values, the
    result is the type.
    """
    if value is None or isinstance(value, str | bytes | int | float | os.PathLike):
        try:
            return shorten(repr(value))
        except ValueError:  # a whole number with thousands of digits
            return "a number with thousands of digits"
    return f"a {type(value).__name__}"


def failed_import(error: BaseException) -> str | None:
    """Return the name of the package whose import raised the error; None if no import of a package did."""
    if isinstance(error, ImportError) and error.name:
        return error.name.partition(".")[0]
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    modules = (frame.f_globals.get("__name__", "") for frame in frames if frame.f_code.co_name == "<module>")
    packages = (name.partition(".")[0] for name in modules)
    return next((name for name in packages if name != __package__), None)


def _place(error: BaseException) -> str | None:
    """Return `FILE:LINE` of the last frame of the error's traceback that is in the user's own code.

    The code of blrobust, of Python and of installed packages is not the user's own. The result is None if
    there is no such frame.
    """
    roots = (str(Path(__file__).parent), str(Path(traceback.__file__).parent), "<")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(roots) and "site-packages" not in frame.filename
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None
