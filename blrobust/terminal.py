"""What a sweep shows on the terminal: progress on stderr, the table on stdout."""

import math
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from blrobust import levels

if TYPE_CHECKING:
    from pandas import DataFrame

    from blrobust.store import Run

WIDE = 200  # columns where no terminal limits them
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

    def __init__(self, *, images: int, done: int = 0, kinds: Sequence[str] = ()) -> None:
        """``images`` go through the networks in the whole run, ``done`` of them did so before.

        ``kinds`` are all those that the run measures, in order.
        """
        from blrobust.attacks.counting_model import Counted  # torch, which a table can do without

        console = Console(stderr=True)
        self._counted = Counted
        self._run = _Bar("run", images, done)
        self._cell: _Bar | None = None
        self._kinds = list(kinds)
        self._levels = 1
        self._what = ""
        self._passed = Counted.passed
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
        self._passed = self._counted.passed
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
            passes = self._counted.passed - self._passed
            spent = _clock(time.perf_counter() - self._cell.since)
            below.add_row(Text(self._what), Text(f"{passes:,} passes, {spent}" if passes else spent))
        return Group(bars, below)


def print_table(table: Table) -> None:
    """Print a table on stdout, in full width where that is a file or a pipe."""
    Console(highlight=False, width=width()).print(table)


def width() -> int:
    """The columns of the terminal, many where stdout is a file or a pipe."""
    console = Console()
    return console.width if console.is_terminal else WIDE


def print_summary(run: "Run", summary: "DataFrame") -> None:
    """Print one row per model on stdout, 95 % intervals below the numbers."""
    draws = "one draw" if run.draws == 1 else f"{run.draws} draws"
    table = Table(
        title=Text(
            f"{', '.join(run.kinds)}, {run.config['space']} space: "
            f"{run.provenance['dataset']['name']}, n = {len(run.labels)}, {draws}"
        ),
        title_style="",
        title_justify="left",
        caption="vs fp32: share of the levels at which accuracy is significantly above, below",
        caption_style="",
        caption_justify="left",
    )
    for header in ("model", "compression", "clean", "mean", "50 % at", "vs fp32"):
        table.add_column(header, justify="left" if header == "model" else "right")
    for row in summary.to_dict("records"):
        table.add_row(
            Text(row["model"]),
            _compression(row["nominal_compression"], row["effective_compression"]),
            _interval("{:.1%}", row, "clean"),
            _interval("{:.1%}", row, "mean"),
            _interval("{:.3g}", row, "half_level"),
            f"{_text('+{:.0%}', row['better'])} {_text('-{:.0%}', row['worse'])}",
        )
    print_table(table)


SHOWN = 6  # strengths in a row of the table, fewer in a narrow terminal
STRENGTH, REST = 10, 50  # columns of the terminal for a strength, and for all else


def print_attacks(run: "Run", models: "DataFrame", worst: "DataFrame") -> None:
    """Print a table per kind of attack on stdout, and the worst cases over all of them."""
    data, source = run.provenance["dataset"], run.config.get("source")
    most = max(2, min(SHOWN, (width() - REST) // STRENGTH))
    for kind in run.kinds:
        rows = models[models.kind == kind].to_dict("records")
        grid, norm = run.levels(kind), _norm(run, kind)
        at = [round(i * (len(grid) - 1) / (most - 1)) for i in range(most)]
        shown = [grid[i] for i in at] if len(grid) > most else grid
        table = Table(
            title=Text(
                f"{kind}, {run.config['space']} space: {data['name']}, n = {len(run.labels)}"
                + (f", found on {source['label']}" if source else "")
            ),
            title_style="",
            title_justify="left",
        )
        table.add_column("model")
        for level in shown:
            name = "clean" if level == 0 else _strength(level, norm, digits=4)
            table.add_column(name, justify="right", no_wrap=True)
        for header in ("median", "success", "queries", "flags"):
            table.add_column(header, justify="right" if header != "flags" else "left")
        for row in rows:
            table.add_row(
                Text(row["model"]),
                *(f"{row['accuracy'][level]:.1%}" for level in shown),
                _strength(row["median"], norm, digits=3),
                _text("{:.1%}", row["success"]),
                _text("{:.4g}", row["queries"]),
                Text(", ".join(row["flags"]) or "-"),
            )
        print_table(table)
    overall = worst[worst.norm == "any"].to_dict("records")
    if overall:
        said = ", ".join(f"{row['model']} {row['accuracy']:.1%}" for row in overall)
        click.echo(f"worst case of the {overall[0]['attacks']} attacks, each at its last strength: {said}")


def _norm(run: "Run", kind: str) -> str | None:
    """The norm of an attack's strengths, None where they are not in units of pixels."""
    from blrobust.attacks.catalogue.table import ATTACKS

    return ATTACKS[kind].norm if run.config["space"] == "pixel" and kind in ATTACKS else None


def _strength(level: float, norm: str | None, *, digits: int) -> str:
    return levels.written(level, norm, digits=digits) if math.isfinite(level) else _text("", level)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))  # h:mm:ss


def _compression(nominal: float | None, effective: float | None) -> str:
    return f"{nominal or 0.0:.2f}\neff. {effective:.3f}" if effective else "none"


def _interval(form: str, row: dict[Hashable, Any], name: str) -> str:
    low, high = _text(form, row[f"{name}_low"]), _text(form, row[f"{name}_high"])
    return f"{_text(form, row[name])}\n{low} {high}"


def _text(form: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return "beyond" if math.isinf(value) else form.format(value)  # beyond the last level
