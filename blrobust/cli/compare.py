"""`blrobust compare`: the paired differences between the models of two stored runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.cli import output
from blrobust.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--baseline",
    metavar="NAME",
    help="Model of A that every model of B is compared with.  [default: the model of the same name; where A "
    "has none, fp32, else the first model of A]",
)
@output.JSON
def command(first: str, second: str, baseline: str | None) -> None:
    """Print the differences in accuracy between the models of run B and those of run A, level by level.

    A and B are run folders, or ids of runs in the folder runs, of noise or attacks on the same images. A
    difference is the accuracy in B minus that in A, with its 95 % interval and the p-value of a paired test,
    adjusted over the levels above 0. Nothing is measured.
    """
    from blrobust import api

    results = api.compare(first, second)
    rows = _selected(results.paired(), baseline)
    if output.is_json():
        output.print_json(rows.to_dict("records"))
    else:
        _print(rows, results.folder)


def _selected(rows: "pd.DataFrame", baseline: str | None) -> "pd.DataFrame":
    """Return the rows of paired tests against `baseline`, by default against the model of the same name.

    Raises `UserError` if there are no rows, and for a baseline that is not a model of the first run.
    """
    from blrobust.analysis.comparison import choose_baseline

    if rows.empty:
        raise UserError("A, B: got runs without a common level of the same noise or attack; legal: others")
    models = list(dict.fromkeys(rows.baseline))
    chosen = choose_baseline(baseline, models)
    if baseline is not None:
        return rows[rows.baseline == chosen]
    others = rows.model.where(rows.model.isin(models), chosen)
    return rows[rows.baseline == others]


def _print(rows: "pd.DataFrame", folder: Path) -> None:
    """Print a table for each pair of models; `folder` is that of the first run, whose space both have."""
    from rich.table import Table
    from rich.text import Text

    from blrobust.analysis.level_norm import level_norm
    from blrobust.cli.results import ascii_text
    from blrobust.cli.tables import print_table
    from blrobust.perturbations.levels import format_level
    from blrobust.reports.number_text import points_and_span
    from blrobust.runs.configuration import Sweep
    from blrobust.runs.record import Record

    config = Record.read(folder).config
    space = config.space if isinstance(config, Sweep) else ""
    for (kind, model, baseline), found in rows.groupby(["kind", "model", "baseline"], sort=False):
        title = f"{kind}: {model} in B minus {baseline} in A"
        table = Table(title=Text(title), title_style="", title_justify="left")
        for header in ("level", "draws", "points", "95 % interval", "p (Holm)", "verdict"):
            table.add_column(header, justify="left" if header == "verdict" else "right")
        norm = level_norm(str(kind), space)
        for row in found.to_dict("records"):
            table.add_row(
                format_level(row["level"], norm),
                str(row["draws"]),
                *map(ascii_text, points_and_span(row["difference"], row["low"], row["high"])),
                f"{row['p_holm']:.2g}",
                Text(row["verdict"]),
            )
        print_table(table)
