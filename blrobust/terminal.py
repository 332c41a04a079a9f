"""What a sweep shows on the terminal: progress on stderr, the table on stdout."""

import math
import time
from collections.abc import Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from pandas import DataFrame

    from blrobust.store import Run

WIDE = 200  # columns where no terminal limits them
NAME = 20  # columns for a model's label beside the bar, which fits into 60 so


class Meter:
    """Progress over all images of a sweep: a live bar on a terminal, else a line per model.

    A context manager; leaving it, also by Ctrl-C, leaves a clean terminal.
    """

    def __init__(self, *, images: int, done: int = 0) -> None:
        """``images`` go through the networks in the whole run, ``done`` of them did so before."""
        console = Console(stderr=True)
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(max_width=NAME, no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            MofNCompleteColumn(),
            TextColumn("images,"),
            TimeRemainingColumn(),
            TextColumn("to go"),
            console=console,
            expand=True,
            transient=True,
            refresh_per_second=4,
            disable=not self._live,
        )
        self._task = self._progress.add_task("", total=images, completed=done)
        self._name = ""
        self._since = time.perf_counter()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.begin("")
        self._progress.stop()

    def begin(self, name: str) -> None:
        """Say what is being measured from now on, and how long the one before took."""
        if name == self._name:
            return
        if self._name and not self._live:
            click.echo(f"{self._name}: {time.perf_counter() - self._since:.1f} s", err=True)
        self._name, self._since = name, time.perf_counter()
        self._progress.update(self._task, description=name)

    def advance(self, images: int) -> None:
        """Count images that came back from the network."""
        self._progress.advance(self._task, images)


def print_table(table: Table) -> None:
    """Print a table on stdout, in full width where that is a file or a pipe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    console.print(table)


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


SHOWN = 6  # strengths in a row of the table


def print_attacks(run: "Run", models: "DataFrame", worst: "DataFrame") -> None:
    """Print a table per kind of attack on stdout, and the worst cases over all of them."""
    data = run.provenance["dataset"]
    for kind in run.kinds:
        rows = models[models.kind == kind].to_dict("records")
        levels = run.levels(kind)
        at = [round(i * (len(levels) - 1) / (SHOWN - 1)) for i in range(SHOWN)]
        shown = [levels[i] for i in at] if len(levels) > SHOWN else levels
        table = Table(
            title=Text(f"{kind}, {run.config['space']} space: {data['name']}, n = {len(run.labels)}"),
            title_style="",
            title_justify="left",
        )
        table.add_column("model")
        for level in shown:
            table.add_column("clean" if level == 0 else f"{level:.4g}", justify="right")
        for header in ("median", "success", "queries", "flags"):
            table.add_column(header, justify="right" if header != "flags" else "left")
        for row in rows:
            table.add_row(
                Text(row["model"]),
                *(f"{row['accuracy'][level]:.1%}" for level in shown),
                _text("{:.3g}", row["median"]),
                _text("{:.1%}", row["success"]),
                _text("{:.4g}", row["queries"]),
                Text(", ".join(row["flags"]) or "-"),
            )
        print_table(table)
    overall = worst[worst.norm == "any"].to_dict("records")
    if overall:
        said = ", ".join(f"{row['model']} {row['accuracy']:.1%}" for row in overall)
        click.echo(f"worst case of the {overall[0]['attacks']} attacks, each at its last strength: {said}")


def _compression(nominal: float | None, effective: float | None) -> str:
    return f"{nominal or 0.0:.2f}\neff. {effective:.3f}" if effective else "none"


def _interval(form: str, row: dict[Hashable, Any], name: str) -> str:
    low, high = _text(form, row[f"{name}_low"]), _text(form, row[f"{name}_high"])
    return f"{_text(form, row[name])}\n{low} {high}"


def _text(form: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return "beyond" if math.isinf(value) else form.format(value)  # beyond the last level
