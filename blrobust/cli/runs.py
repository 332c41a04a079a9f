"""`blrobust runs`: a table of the runs in a folder."""

from pathlib import Path

import click

from blrobust.errors import UserError
from blrobust.escaping import escape
from blrobust.runs import RUNS

COLUMNS = ("run", "command", "kind", "models", "data set", "n", "cells", "started", "finished")


@click.command("runs")
@click.argument("folder", type=click.Path(path_type=Path), default=RUNS)
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
    table = Table(*COLUMNS)
    for cells in sorted((_row(path) for path in found), key=lambda cells: cells[-2]):
        table.add_row(*(Text(escape(cell)) for cell in cells))
    print_table(table)


def _row(path: Path) -> list[str]:
    from blrobust.runs.run import Run

    try:
        with Run.open(path) as run:
            record = run.record
            return [
                path.name,
                run.config.command,
                run.config.summary,
                ", ".join(run.models),
                record.dataset.name,
                str(record.dataset.n),
                f"{len(run.done())}/{run.cells}",
                record.started,
                record.finished or "no",
            ]
    except (UserError, OSError) as error:
        return [path.name, f"unreadable: {error}", *[""] * (len(COLUMNS) - 2)]
