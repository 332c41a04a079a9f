"""Locks, so that only one process at a time writes to a run folder or a checkpoint."""

from pathlib import Path

from filelock import FileLock, Timeout

from blrobust.errors import UserError
from blrobust.regular_file import check_file_or_none

LOCK = "lock"  # name of the lock file in a run folder


def acquire(path: Path, refusal: str) -> FileLock:
    """Acquire a lock of the file `path` without waiting, and return the lock.

    The file is created in its folder, which must exist. The file remains after the lock is released. The lock
    is released at the latest when the process ends. Raises `UserError` with the text `refusal` if another
    process has the lock. Raises `UserError` for a link too: locking empties the file, which would destroy the
    target of the link.
    """
    check_file_or_none(path)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(refusal) from None
    return lock
