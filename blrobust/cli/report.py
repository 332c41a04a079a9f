"""``blrobust report``: stored runs as one HTML file."""

from pathlib import Path

import click

from blrobust.cli.presentation import announce
from blrobust.errors import UserError

SUFFIXES = (".html", ".htm")


@click.command("report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML file to write.  [default: report.html, in the folder of one RUN, of several here]",
)
@click.option("--open", "open_report", is_flag=True, help="Open the report in the browser.")
def command(runs: tuple[Path, ...], output: Path | None, *, open_report: bool) -> None:
    """Render one RUN folder, or compare several, as one HTML file.

    Runs of one kind share a figure, other kinds get sections of their own. Nothing is measured
    again: the report reads what the runs hold, also of an unfinished one.
    """
    from contextlib import ExitStack

    from blrobust.analysis.run_analysis import RunAnalysis
    from blrobust.reports import page
    from blrobust.runs.run import REPORT, Run

    folders = [path.resolve() for path in runs]
    for path, folder in zip(runs, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(f"{path} is given more than once; legal: different run folders")
    if output is None:
        output = runs[0] / REPORT if len(runs) == 1 else Path(REPORT)
    elif output.suffix.lower() not in SUFFIXES:  # also, never replace run.json by a slip
        raise UserError(f"--output {output}: the report is HTML; legal names end in {' or '.join(SUFFIXES)}")
    elif not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    with ExitStack() as stack:
        page.render([RunAnalysis(stack.enter_context(Run.open(path))) for path in runs], output)
    announce(output, open_report=open_report)
