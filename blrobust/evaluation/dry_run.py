"""Dry runs: a measurement that ends before its run folder is created or changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from blrobust.evaluation.observer import Observer
from blrobust.runs.plan import plan
from blrobust.runs.record import Record

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def dry_run(observer: Observer) -> Iterator[None]:
    """Return a context in which the function `end_dry_run` ends the run by `observer.end_dry_run`."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def end_dry_run(out: Path | None, record: Record) -> None:
    """In a dry run, pass the plan of the run to the observer, which ends the process; otherwise do nothing.

    `record` describes the run, and `out` is its folder, or None for the default. Raises `UserError` if the
    folder cannot be used for this run.
    """
    if (observer := _observer.get()) is not None:
        observer.end_dry_run(plan(out, record), device=record.sessions[-1].device)
