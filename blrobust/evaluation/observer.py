"""The observer of a measurement: it receives notes and the start, and decides if progress is shown."""

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from blrobust.runs.plan import Plan


class Observer:
    """An observer that ignores all events; the command line has one that prints them."""

    shows_progress = False  # bars on a terminal, lines of text elsewhere, both on stderr

    is_dry_run = False  # the measurement ends where its folder is known, before anything is written

    def note(self, text: str) -> None:
        """Receive a note about the data or the models."""

    def begin(self, folder: Path, done: int, total: int, *, device: str) -> None:
        """Receive the folder of a run, the number of its stored parts, and the number of all its parts."""

    def end_dry_run(self, plan: "Plan", *, device: str) -> NoReturn:
        """Receive the plan of a dry run, and end it with an exception."""
        raise NotImplementedError


def observed(progress: bool | Observer, call: str) -> tuple[Observer, str | None]:
    """Return the observer of a measurement, and the text to record as its command.

    For a call from Python, the text is `call`. On the command line, `progress` is an `Observer`; the text is
    then None, and the command line is recorded.
    """
    if isinstance(progress, Observer):
        return progress, None
    observer = Observer()
    observer.shows_progress = progress
    return observer, call
