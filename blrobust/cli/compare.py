"""`blrobust compare`: the paired differences between the models of two stored runs."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.cli import output
from blrobust.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from blrobust.reports.axes import Axis


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--baseline",
    metavar="NAME",
    help="Model of A that every model of B is compared with.  [default: the model of the same name; if "
    "there is none, fp32; if A has no fp32, its first model]",
)
@output.JSON
def command(first: str, second: str, baseline: str | None) -> None:
    """Print the differences in accuracy between the models of run B and those of run A, level by level.

    A and B are runs of noise or of attacks on the same images: run folders, or the first characters of their
    names in the folder runs/, such as 1cb0. A difference is the accuracy of a model of B minus that of a
    model of A, with its 95 % interval and the p-value of a paired test, adjusted by Holm's method over the
    levels above 0. Nothing is measured.
    """
    from blrobust import api

    results = api.compare(first, second)
    if len(results.folders) != 2:
        parts = ", ".join(map(str, results.folders))
        raise UserError(f"A, B: got runs of noise and attacks together; legal: two of the folders {parts}")
    paired = results.paired()
    if paired.empty:
        raise UserError(
            f"A, B: got {' and '.join(_measured(results.table))}; legal: runs with a common level of one "
            "noise or attack"
        )
    rows = _selected(paired, baseline)
    if output.is_json():
        output.print_json(rows.to_dict("records"))
    else:
        _print(rows, results.folders)


def _measured(table: "pd.DataFrame") -> list[str]:
    """Return each run with its kinds of noise and attacks and their first and last levels, as text."""
    runs: dict[str, list[str]] = {}
    for (run, kind), rows in table.groupby(["run", "kind"], sort=False):
        ends = rows.level_label.iloc[[0, -1]].unique()
        runs.setdefault(str(run), []).append(f"{kind} at {' to '.join(ends)}")
    return [f"{run} ({', '.join(kinds)})" for run, kinds in runs.items()]


def _selected(rows: "pd.DataFrame", baseline: str | None) -> "pd.DataFrame":
    """Return the rows of paired tests against `baseline`, by default against the model of the same name.

    Raises `UserError` for a baseline that is not a model of the first run.
    """
    from blrobust.analysis.comparison import choose_baseline

    models = list(dict.fromkeys(rows.baseline))
    chosen = choose_baseline(baseline, models)
    if baseline is not None:
        return rows[rows.baseline == chosen]
    others = rows.model.where(rows.model.isin(models), chosen)
    return rows[rows.baseline == others]


def _print(rows: "pd.DataFrame", folders: Sequence[Path]) -> None:
    """Print a table for each pair of models and, for each kind, notes on how the two runs differ.

    `folders` are those of the two runs.
    """
    from blrobust.analysis.run_analysis import RunAnalysis
    from blrobust.cli.results import ascii_text
    from blrobust.reports.axes import axis
    from blrobust.reports.pair_notes import pair_notes
    from blrobust.runs.run import Run
    from blrobust.terminal import echo

    with ExitStack() as stack:
        opened = (stack.enter_context(Run.open(folder)) for folder in folders)
        runs = {name: RunAnalysis(run) for name, run in zip("AB", opened, strict=True)}
        run = runs["A"].run
        for kind, found in rows.groupby("kind", sort=False):
            levels = {x for each in runs.values() for x in each.kinds[str(kind)].levels}
            on = axis(str(kind), run.sweep.space, run.record.dataset.std, levels=levels)
            echo(f"{kind}, {run.sweep.space} space: {run.record.dataset.name}, n = {len(run.labels)}")
            for (model, baseline), pair in found.groupby(["model", "baseline"], sort=False):
                _print_pair(pair, f"{kind}: {model} in B minus {baseline} in A", on)
            for note in pair_notes({name: each.kinds[str(kind)] for name, each in runs.items()}, on):
                echo(ascii_text(note))


def _print_pair(rows: "pd.DataFrame", title: str, on: "Axis") -> None:
    from rich.table import Table
    from rich.text import Text

    from blrobust.cli.results import ascii_text
    from blrobust.cli.tables import print_table
    from blrobust.reports.number_text import p_digits, points_and_span

    table = Table(title=Text(title), title_style="", title_justify="left")
    for header in ("level", "draws", "points", "95 % interval", "p (Holm)", "verdict"):
        table.add_column(header, justify="left" if header == "verdict" else "right")
    for row in rows.to_dict("records"):
        table.add_row(
            on.format(row["level"]),
            str(row["draws"]),
            *map(ascii_text, points_and_span(row["difference"], row["low"], row["high"])),
            p_digits(row["p_holm"]),
            Text(row["verdict"]),
        )
    print_table(table)
