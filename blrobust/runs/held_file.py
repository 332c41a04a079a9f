"""A file that a process keeps open, by which it recognises that its folder was moved or replaced."""

import errno
from pathlib import Path


class HeldFile:
    """The file at `path`, which this process has opened; `check` compares it with the file at the same path.

    The comparison uses the inode: while a file is open, no other file gets the same inode.
    """

    def __init__(self, path: Path) -> None:
        """Store the identity of the file; raise `OSError` if there is none."""
        self._path = path
        self._identity = _identity(path)

    def check(self) -> None:
        """Raise `OSError` if the path has another file or none, because the folder was moved or replaced."""
        try:
            is_same = _identity(self._path) == self._identity
        except OSError:
            is_same = False
        if not is_same:
            problem = "the folder was moved or replaced in the meantime; nothing more is written to it"
            raise OSError(errno.ESTALE, problem, str(self._path))


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino
