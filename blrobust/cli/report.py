"""`blrobust report`: the report of stored runs as one HTML file."""

from pathlib import Path

import click

from blrobust.cli import options
from blrobust.cli.output import JSON, is_json, print_json
from blrobust.cli.presentation import drawing, open_in_browser
from blrobust.errors import UserError
from blrobust.file_names import REPORT_SUFFIXES
from blrobust.terminal import echo

MOST_RUNS = 200  # each is open, and a process may have 256 open files on some systems


@click.command("report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--out",
    "--output",
    "output",
    type=options.OutputPath(dir_okay=False),
    help="HTML file to write.  [default: report.html, in the folder of one RUN; in the current folder for "
    "several]",
)
@options.BASELINE
@click.option("--open", "open_report", is_flag=True, help="Open the report in the browser.")
@JSON
def command(runs: tuple[str, ...], output: Path | None, baseline: str | None, *, open_report: bool) -> None:
    """Write the report of one RUN, or a comparison of several, as one HTML file.

    RUN is a run folder, or the first characters of the name or id of a run in the folder runs.

    Only runs of noise and attacks can be compared; those with the same kind share a figure. Nothing is
    measured again. Of an unfinished run, the report shows the part that is done.
    """
    from contextlib import ExitStack

    from blrobust.analysis.view import view
    from blrobust.runs.folder import REPORT
    from blrobust.runs.run import Run
    from blrobust.runs.stored_runs import find

    if len(runs) > MOST_RUNS:
        raise UserError(f"RUN: got {len(runs):,} runs; legal: at most {MOST_RUNS}")
    folders = [folder for run in runs for folder in find(run)]
    places = [folder.resolve() for folder in folders]
    for path, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"RUN: got {path} more than once; legal: different run folders")
    if output is None:
        output = folders[0] / REPORT if len(folders) == 1 else Path(REPORT)
    elif output.suffix.lower() not in REPORT_SUFFIXES:  # a typing error must not replace run.json
        raise UserError(f"--out: got {output}; legal: a name that ends in {' or '.join(REPORT_SUFFIXES)}")
    elif not output.parent.is_dir():
        raise UserError(
            f"--out: got {output}; legal: a file in a folder that exists ({output.parent} does not)"
        )
    with ExitStack() as stack:
        results = [view(stack.enter_context(Run.open(path)), baseline=baseline) for path in folders]
        with drawing(output):
            from blrobust.reports import document  # seaborn takes a second to import

            document.render(results, output)
    if is_json():
        print_json({"report": str(output)})
    else:
        echo(f"report: {output}")
    if open_report:
        open_in_browser(output)
