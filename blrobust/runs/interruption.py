"""Ctrl-C during work whose finished part is stored."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blrobust.signals import interruptible


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message names the folder and the part that is done."""


@contextmanager
def resumable(folder: Path, finished: Callable[[], str]) -> Iterator[None]:
    """Return a context that raises `Interrupted` when Ctrl-C stops the code in it.

    `finished` returns the part that is stored in `folder`, such as "2 of 9 levels".
    """
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        done = f"{folder}: {finished()} done"
        raise Interrupted(f"{done}; run the same command again to resume") from None
