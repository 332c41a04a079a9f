"""Progress of long work on stderr: bars on a terminal, else a line for each model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

NAME = 20  # columns for a model's label beside the bar, which fits into 60 so


@dataclass
class _Bar:
    """How far something is: ``done`` of ``total`` images, ``before`` of them when the clock started."""

    name: str
    total: int
    done: int
    before: int = field(init=False)
    since: float = field(init=False)
    last: float = field(init=False)  # when images came back

    def __post_init__(self) -> None:
        self.before = self.done
        self.since = self.last = time.perf_counter()

    def advance(self, images: int) -> None:
        self.done += images
        self.last = time.perf_counter()

    def to_go(self) -> str:
        """At the mean pace so far, counting down between two advances, which may be minutes apart.

        Unknown again once that has run out: what follows a level 0 takes longer than it.
        """
        if self.done == self.before:
            return "-:--:--"
        whole = (self.last - self.since) / (self.done - self.before) * (self.total - self.done)
        left = whole - (time.perf_counter() - self.last)
        return _clock(left) if left > 0 or self.done == self.total else "-:--:--"


class Meter:
    """Progress over all images of a run: on a terminal bars of the run and of its cell, else lines.

    A line is printed per model, when that is done. A context manager; leaving it, also by Ctrl-C,
    leaves a clean terminal.
    """

    def __init__(
        self,
        *,
        images: int,
        done: int = 0,
        kinds: Sequence[str] = (),
        passes: Callable[[], int] = lambda: 0,
    ) -> None:
        """``images`` go through the networks in the whole run, ``done`` of them did so before.

        ``kinds`` are all those that the run measures, in order. ``passes`` returns how many images went
        through the networks so far: it grows while a block is under way.
        """
        console = Console(stderr=True)
        self._count_passes = passes
        self._run = _Bar("run", images, done)
        self._cell: _Bar | None = None
        self._kinds = list(kinds)
        self._levels = 1
        self._what = ""
        self._passed = passes()
        self._name, self._since = "", time.perf_counter()
        self._on_terminal = console.is_terminal
        self._shown = Live(get_renderable=self._lines, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._on_terminal:
            self._shown.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._rename("")
        self._shown.stop()

    def begin(
        self, name: str, *, images: int, done: int = 0, kind: str = "", levels: Sequence[float] = ()
    ) -> None:
        """Say what is measured from now on: ``images`` at each level, of which ``done`` were before."""
        several = len(self._kinds) > 1
        self._rename(f"{kind} {name}" if several else name)
        if several:
            self._run.name = f"run, kind {self._kinds.index(kind) + 1} of {len(self._kinds)}"
        self._what = kind + (" at " if levels else "") + ", ".join(f"{level:.4g}" for level in levels)
        self._levels = max(1, len(levels))
        self._passed = self._count_passes()
        self._cell = _Bar(name, images, done)

    def advance(self, images: int) -> None:
        """Count images that came back from the network, those of every level."""
        self._run.advance(images)
        if self._cell is not None:
            self._cell.advance(images // self._levels)

    def _rename(self, name: str) -> None:
        """Off a terminal, say how long the one before took."""
        if name == self._name:
            return
        if self._name and not self._on_terminal:
            click.echo(f"{self._name}: {time.perf_counter() - self._since:.1f} s", err=True)
        self._name, self._since = name, time.perf_counter()

    def _lines(self) -> Group:
        """Both bars, and below them what moves while a block is under way."""
        bars = Table.grid(
            Column(max_width=NAME, no_wrap=True),
            Column(ratio=1),
            Column(no_wrap=True, justify="right"),
            padding=(0, 1),
            expand=True,
        )
        below = Table.grid(Column(ratio=1, no_wrap=True), Column(no_wrap=True), padding=(0, 1), expand=True)
        for bar in (self._run, self._cell):
            if bar is not None:
                numbers = f"{bar.done}/{bar.total} images, {bar.to_go()} to go"
                bars.add_row(Text(bar.name), ProgressBar(total=bar.total, completed=bar.done), Text(numbers))
        if self._cell is not None:
            passes = self._count_passes() - self._passed
            spent = _clock(time.perf_counter() - self._cell.since)
            below.add_row(Text(self._what), Text(f"{passes:,} passes, {spent}" if passes else spent))
        return Group(bars, below)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))  # h:mm:ss
