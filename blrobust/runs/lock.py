"""Locks: one process at a time writes to a folder or a checkpoint."""

from pathlib import Path

from filelock import FileLock, Timeout

from blrobust.errors import UserError

LOCK = "lock"  # the file in a folder of results


def acquire(path: Path, refusal: str) -> FileLock:
    """Return the acquired lock of the file `path`, which is created and stays; the folder must exist.

    The lock ends with the process. Raises `UserError` with the text `refusal` if another process has the
    lock, and also if `path` is a link, because the lock empties the file.
    """
    if path.is_symlink():
        raise UserError(f"{path}: got a link; legal: a file, or none")
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(refusal) from None
    return lock
