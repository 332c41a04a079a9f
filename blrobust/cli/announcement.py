"""The lines on stderr before and after a measurement: its size, its folder, and the time it took."""

import sys
import time
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from blrobust.cli import output
from blrobust.cli.option_names import with_option
from blrobust.data import registry
from blrobust.errors import shorten
from blrobust.escaping import one_line
from blrobust.evaluation.observer import Observer
from blrobust.terminal import echo

if TYPE_CHECKING:
    from blrobust.runs.plan import Plan

MINUTE = 60
MOST_TEXT = 1000  # characters of the size of a measurement


class Announcement(Observer):
    """Prints the size of a measurement before torch is imported, and the time that it took at the end.

    With `--quiet` it prints nothing.
    """

    def __init__(
        self, work: str, *, device: str, out: Path | None, unit: str = "cells", dry_run: bool = False
    ) -> None:
        """Print the text `work`, with the device and the folder if they are already known.

        `unit` is the plural noun for the parts of the measurement. In a dry run, nothing is printed before
        `end_dry_run`.
        """
        self.shows_progress = not output.is_quiet()
        self.is_dry_run = dry_run
        self._stdout = sys.stdout
        self._work = one_line(shorten(work, MOST_TEXT))
        self._unit = unit
        self._start = time.perf_counter()
        self._knows_device, self._knows_folder = device != "auto", out is not None
        on = f" on {device}" if self._knows_device else ""
        to = f" -> {out}" if self._knows_folder else ""
        if not dry_run:
            self._print(one_line(f"{self._work}{on}{to}"))

    def note(self, text: str) -> None:
        """Print a note about the data or the models."""
        self._print(with_option(text))

    def begin(self, folder: Path, done: int, total: int, *, device: str) -> None:
        """Print the device and the folder unless `__init__` has, and the part that is already stored."""
        on = "" if self._knows_device else f"on {device}"
        to = "" if self._knows_folder else f"-> {folder}"
        before = f"({done:,} of {total:,} {self._unit} done before)" if done else ""
        if line := " ".join(filter(None, (on, to, before))):
            self._print(one_line(line))

    def end_dry_run(self, plan: "Plan", *, device: str) -> NoReturn:
        """Print the size of the measurement, its device and folder, and the stored part; exit with code 0."""
        if plan.finished:
            state = f"finished, all {plan.cells:,} cells are stored; nothing would be measured"
        elif plan.cells:
            state = f"{plan.done:,} of {plan.cells:,} cells are stored; the run would be resumed"
        else:
            state = "a new run"
        plan_of = {"measurement": self._work, "device": device, "folder": str(plan.folder), "state": state}
        with redirect_stdout(self._stdout):  # in a measurement, that of scripts goes to stderr
            if output.is_json():
                output.print_json(plan_of)
            else:
                for line in (self._work, f"device: {device}", f"folder: {plan.folder}", f"state: {state}"):
                    echo(line)
        sys.exit(0)

    def finish(self, measured: float) -> None:
        """Print the time since the start, and the seconds that all sessions `measured`."""
        spent = _duration(time.perf_counter() - self._start)
        self._print(f"done in {spent}; time of all measurements of this run: {_duration(measured)}")

    def _print(self, line: str) -> None:
        if self.shows_progress:
            echo(line, err=True)


def _duration(seconds: float) -> str:
    """Return a time as text, such as "12.3 s" or "1:02:05"."""
    return f"{seconds:.1f} s" if seconds < MINUTE else str(timedelta(seconds=round(seconds)))


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 level" or "1,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def names(text: str) -> str:
    """Return the comma-separated list `text` with a space after each comma."""
    return ", ".join(part.strip() for part in text.split(","))


def images(dataset: str | None, *, data_dir: Path | None, limit: int | None) -> str:
    """Return the number of images in words, such as "1,000 images".

    The number of a user's own images is not known before they are read, and the text says which are used.
    """
    name = registry.default_name(data_dir) if dataset is None else dataset
    source = registry.NAMES.get(name)
    if source is None:  # the user's own images, not counted yet
        return f"all images of {name}" if limit is None else f"up to {count(limit, 'image')} of {name}"
    size = source.sizes["test"]
    return count(size if limit is None else min(size, limit), "image")
