"""Files that are complete or absent: neither a kill nor a full disk leaves half of one."""

import os
from pathlib import Path


def temporary(path: Path) -> Path:
    """Return the hidden file beside `path` that is written and then renamed to it."""
    return path.with_name(f".{path.name}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all.

    Bytes of file names that are not UTF-8 are written as `\\udcff`: a path must not cost the results.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to a hidden file beside `path`, flush it to the disk, and rename it to `path`."""
    neighbour = temporary(path)
    try:
        with neighbour.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
    except BaseException as error:
        neighbour.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk names no file; the hidden one is unknown to users
        raise
