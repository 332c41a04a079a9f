"""`blrobust runs`: a table of the runs in a folder."""

from pathlib import Path
from typing import Any

import click

from blrobust.cli import output
from blrobust.cli.options import UserPath
from blrobust.escaping import escape
from blrobust.runs import RUNS
from blrobust.terminal import echo

COLUMNS = ("run", "command", "kind", "models", "data set", "n", "cells", "started", "finished")
WHOLE_TABLE = 160  # columns of a terminal that the whole table needs
REST = 45  # columns that the narrow table needs beside the names
MINUTES = len("2026-01-02T03:04")  # of a time in the narrow table
NARROW = ("run", "command", "kind", "cells", "finished")


@click.command("runs")
@click.argument("folder", type=UserPath(), default=RUNS)
@output.JSON
def command(folder: Path) -> None:
    """List the runs of all commands in FOLDER (default: runs), the latest one last.

    The other commands find a run in the folder runs/ by the first characters (at least 4) of its name.
    """
    from rich.table import Table
    from rich.text import Text

    from blrobust.cli.tables import print_table, width
    from blrobust.runs.listing import listing  # not through the Python interface, which imports torch

    runs = listing(folder)
    if output.is_json():
        output.print_json(runs)
        return
    is_narrow = width() < WHOLE_TABLE
    columns = NARROW if is_narrow else COLUMNS
    longest = max(len(escape(facts["run"])) for facts in runs)
    table = Table()
    for column in columns:
        if column == "run":
            table.add_column(column, min_width=longest, no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    for facts in runs:
        row = dict(zip(COLUMNS, _row(facts), strict=True))
        if is_narrow:
            row["finished"] = row["finished"][:MINUTES]
        table.add_row(*(Text(escape(row[column])) for column in columns))
    print_table(table, least=longest + REST)
    if is_narrow:
        others = ", ".join(column for column in COLUMNS if column not in NARROW)
        echo(f"A terminal of {WHOLE_TABLE} columns also shows {others}.")


def _row(facts: dict[str, Any]) -> list[str]:
    if facts["error"] is not None:
        return [facts["run"], "", f"unreadable: {facts['error']}", *[""] * (len(COLUMNS) - 3)]
    return [
        facts["run"],
        facts["command"],
        facts["summary"],
        ", ".join(facts["models"]),
        facts["dataset"],
        str(facts["n"]),
        f"{facts['done']}/{facts['cells']}",
        facts["started"],
        facts["finished"] or "no",
    ]
