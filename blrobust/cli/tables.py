"""Tables of results on stdout."""

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from blrobust.perturbations import levels

if TYPE_CHECKING:
    from pandas import DataFrame

    from blrobust.runs.run import Run

K = TypeVar("K")

WIDE = 200  # columns where stdout is no terminal


def print_table(table: Table) -> None:
    """Print a table on stdout, at full width where stdout is a file or a pipe."""
    Console(highlight=False, width=width()).print(table)


def width() -> int:
    """Return the columns of the terminal, or `WIDE` where stdout is a file or a pipe."""
    console = Console()
    return console.width if console.is_terminal else WIDE


def print_summary(run: "Run", summary: "DataFrame", flags: Mapping[str, list[str]]) -> None:
    """Print one row per model, with 95 % intervals below the numbers, and flags where a model has any."""
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
    add_flags = flag_column(table, flags)
    for row in summary.to_dict("records"):
        table.add_row(
            Text(row["model"]),
            _compression(row["nominal_compression"], row["effective_compression"]),
            _interval("{:.1%}", row, "clean"),
            _interval("{:.1%}", row, "mean"),
            _interval("{:.3g}", row, "half_level"),
            f"{_text('+{:.0%}', row['better'])} {_text('-{:.0%}', row['worse'])}",
            *add_flags(row["model"]),
        )
    print_table(table)


def flag_column(table: Table, flags: Mapping[K, list[str]]) -> Callable[[K], list[Text]]:
    """Add a column of flags where there are any; return the function that gives the cells of a key."""
    if not any(flags.values()):
        return lambda key: []
    table.add_column("flags")
    return lambda key: [Text(", ".join(flags[key]) or "-")]


SHOWN = 6  # levels in a row of the table, fewer in a narrow terminal
LEVEL, REST = 10, 50  # columns of the terminal for a level, and for all else


def print_attacks(run: "Run", models: "DataFrame", worst: "DataFrame") -> None:
    """Print a table per attack, and the worst case over all attacks."""
    data, source = run.provenance["dataset"], run.config.get("source")
    columns = max(2, min(SHOWN, (width() - REST) // LEVEL))
    for kind in run.kinds:
        rows = models[models.kind == kind].to_dict("records")
        grid, norm = run.levels(kind), _norm(run, kind)
        spread = [grid[round(i * (len(grid) - 1) / (columns - 1))] for i in range(columns)]
        shown = spread if len(grid) > columns else grid
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
            name = "clean" if level == 0 else _format_level(level, norm, digits=4)
            table.add_column(name, justify="right", no_wrap=True)
        for header in ("median", "success", "queries", "flags"):
            table.add_column(header, justify="right" if header != "flags" else "left")
        for row in rows:
            table.add_row(
                Text(row["model"]),
                *(f"{row['accuracy'][level]:.1%}" for level in shown),
                _format_level(row["median"], norm, digits=3),
                _text("{:.1%}", row["success"]),
                _text("{:.4g}", row["queries"]),
                Text(", ".join(row["flags"]) or "-"),
            )
        print_table(table)
    overall = worst[worst.norm == "any"].to_dict("records")
    if overall:
        accuracies = ", ".join(f"{row['model']} {row['accuracy']:.1%}" for row in overall)
        click.echo(
            f"worst case of the {overall[0]['attacks']} attacks, each at its last strength: {accuracies}"
        )


def _norm(run: "Run", kind: str) -> str | None:
    """Return the norm of an attack's strengths; None where they are not in pixel units."""
    from blrobust.attacks.catalogue.table import ATTACKS

    return ATTACKS[kind].norm if run.config["space"] == "pixel" and kind in ATTACKS else None


def _format_level(level: float, norm: str | None, *, digits: int) -> str:
    return levels.format_level(level, norm, digits=digits) if math.isfinite(level) else _text("", level)


def _compression(nominal: float | None, effective: float | None) -> str:
    return f"{nominal or 0.0:.2f}\neff. {effective:.3f}" if effective else "none"


def _interval(form: str, row: dict[Hashable, Any], name: str) -> str:
    low, high = _text(form, row[f"{name}_low"]), _text(form, row[f"{name}_high"])
    return f"{_text(form, row[name])}\n{low} {high}"


def _text(form: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return "beyond" if math.isinf(value) else form.format(value)  # beyond the last level
