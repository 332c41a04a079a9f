"""A deadline for long work, which stops between two parts of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_moment: ContextVar[float | None] = ContextVar("moment", default=None)


class DeadlineError(Exception):
    """The deadline has passed; what is stored is kept, and the same work can be resumed."""


@contextmanager
def until(moment: float | None) -> Iterator[None]:
    """Return a context with a deadline, a value of `time.perf_counter`; None means no deadline."""
    token = _moment.set(moment)
    try:
        yield
    finally:
        _moment.reset(token)


def check() -> None:
    """Raise `DeadlineError` if the deadline has passed. Measurements and trainings call it between parts."""
    moment = _moment.get()
    if moment is not None and time.perf_counter() >= moment:
        raise DeadlineError
