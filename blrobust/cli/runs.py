"""`blrobust runs`: a table of the runs in a folder."""

from pathlib import Path
from typing import Any

import click

from blrobust.cli import output
from blrobust.errors import UserError
from blrobust.escaping import escape
from blrobust.runs import RUNS

KEYS = (
    *("run", "id", "folder", "command", "summary", "models", "dataset", "n", "done", "cells", "started"),
    *("finished", "error"),
)
COLUMNS = ("run", "command", "kind", "models", "data set", "n", "cells", "started", "finished")


@click.command("runs")
@click.argument("folder", type=click.Path(path_type=Path), default=RUNS)
@output.JSON
def command(folder: Path) -> None:
    """List the runs in FOLDER (default: runs), the latest one last."""
    from rich.table import Table
    from rich.text import Text

    from blrobust.cli.tables import print_table
    from blrobust.runs.database import FILE as DATABASE
    from blrobust.runs.record import ANCIENT
    from blrobust.runs.record import FILE as RECORD

    if not folder.is_dir():
        raise UserError(f"FOLDER: got {folder}; legal: a folder that exists ('blrobust noise' makes runs)")
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    found = [
        path
        for path in (folder, *inside)
        if any((path / name).exists() for name in (RECORD, DATABASE, ANCIENT))
    ]
    if not found:
        raise UserError(f"FOLDER: got {folder}; legal: a run folder, or a folder that contains runs")
    runs = sorted((_facts(path) for path in found), key=lambda facts: facts["started"] or "")
    if output.is_json():
        output.print_json(runs)
        return
    table = Table(*COLUMNS)
    for facts in runs:
        table.add_row(*(Text(escape(cell)) for cell in _row(facts)))
    print_table(table)


def _facts(path: Path) -> dict[str, Any]:
    """Return the facts about a run by `KEYS`; those of an unreadable run are None, except for the error."""
    from blrobust.cli.run_facts import run_facts
    from blrobust.runs.run import Run

    empty = dict.fromkeys(KEYS)
    try:
        with Run.open(path) as run:
            return empty | run_facts(run)
    except (UserError, OSError) as error:
        return empty | {"run": path.resolve().name, "folder": str(path), "error": str(error)}


def _row(facts: dict[str, Any]) -> list[str]:
    if facts["error"] is not None:
        return [facts["run"], f"unreadable: {facts['error']}", *[""] * (len(COLUMNS) - 2)]
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
