"""Files that are whole or not there: what a kill or a full disk must never leave half-written."""

import os
from pathlib import Path


def temporary(path: Path) -> Path:
    """Return the hidden neighbour in which a file is written before it is renamed."""
    return path.with_name(f".{path.name}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all.

    Bytes of file names that are no text come out as ``\\udcff``: a path must not cost the results.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to a hidden neighbour, flush it to the disk, rename it to ``path``."""
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
            error.filename = str(path)  # a full disk names no file, and nobody knows the neighbour
        raise
