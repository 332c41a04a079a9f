"""Interruption of work whose finished part is stored, by Ctrl-C, SIGTERM or SIGHUP."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blrobust.signals import interruptible


class Interrupted(KeyboardInterrupt):
    """The error for interrupted work; the message has the folder and the finished part of the work."""


@contextmanager
def resumable(folder: Path, finished: Callable[[], str]) -> Iterator[None]:
    """Return a context that raises `Interrupted` when Ctrl-C, SIGTERM or SIGHUP stops the code in it.

    `finished` returns a text about the part of the work that is stored in `folder`, such as "2 of 9 levels".
    """
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        done = f"{folder}: {finished()} done"
        raise Interrupted(f"{done}; run the same command again to resume") from None
