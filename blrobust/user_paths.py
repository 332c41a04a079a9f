"""Paths that a user gives: the checks that they pass before the file system sees them."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from blrobust.errors import UserError, shorten, shown

StrPath = str | os.PathLike[str]
MOST_NAME = 255  # bytes of a file name, on the common file systems
MOST_PATH = 3500  # bytes; Linux allows 4,095, and names of files in a folder are added
LEGAL = f"legal: a path, without NUL, of at most {MOST_PATH:,} bytes, its names of at most {MOST_NAME}"


def expanded(path: StrPath, name: str) -> Path:
    """Return the path with the home folder in place of a leading `~`; `name` is the argument for messages.

    Bytes of a file name that are not UTF-8 are legal, as Python reads them from the command line. Raises
    `UserError` for another type, and for a path that is empty or that no file system can have.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UserError(f"{name}: got {shown(path)}; {LEGAL}")
    if not text.strip():
        raise UserError(f"{name}: got an empty path; legal: a path")
    whole = os.path.expanduser(text)  # that of pathlib raises an error for an unknown user
    try:
        encoded = os.fsencode(whole)
    except UnicodeEncodeError:  # a lone surrogate
        encoded = b""
    longest = max(map(len, encoded.split(os.fsencode(os.sep))))
    if not encoded or b"\0" in encoded or len(encoded) > MOST_PATH or longest > MOST_NAME:
        raise UserError(f"{name}: got {shown(text)}; {LEGAL}")
    return Path(whole)


def is_address(text: str) -> bool:
    """Return whether `text` is an address on the network, such as https://HOST/PATH, and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def optional(path: StrPath | None, name: str) -> Path | None:
    """Return the path as by the function `expanded`, or None for None."""
    return None if path is None else expanded(path, name)


def output_folder(path: StrPath, name: str) -> Path:
    """Return the path of a folder to write to, which need not exist.

    Raises `UserError` for a path that no file system can have, and for one in or behind a file or a link to
    nothing. A file at the path itself is not refused here.
    """
    folder = expanded(path, name)
    below = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    if below.is_dir() or (below == folder and folder.exists()) or not os.path.lexists(below):
        return folder
    problem = "a file" if below.exists() else "a link to nothing"
    got = f"{name}: got {shorten(str(folder))}, where {shorten(str(below))} is {problem}"
    raise UserError(f"{got}; legal: a new or empty folder")


def output_file(path: StrPath, name: str, suffixes: Collection[str]) -> Path:
    """Return the path of a file to write, which may exist: its name ends in one of the `suffixes`.

    So a typing error does not replace `run.json`. Raises `UserError` for another name, for a folder, and for
    a file in a folder that does not exist.
    """
    file = expanded(path, name)
    got = f"{name}: got {shorten(str(file))}"
    if file.suffix.lower() not in suffixes:
        raise UserError(f"{got}; legal: a name that ends in {' or '.join(suffixes)}")
    if not file.parent.is_dir():
        raise UserError(
            f"{got}; legal: a file in a folder that exists ({shorten(str(file.parent))} does not)"
        )
    if file.is_dir():
        raise UserError(f"{got}, which is a directory; legal: a file")
    return file
