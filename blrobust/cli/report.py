"""`blrobust report`: the report of stored runs as one HTML file."""

from pathlib import Path

import click

from blrobust.cli import options
from blrobust.cli.output import JSON, is_json, print_json
from blrobust.cli.presentation import drawing, open_in_browser
from blrobust.errors import UserError
from blrobust.file_names import REPORT_SUFFIXES
from blrobust.terminal import echo
from blrobust.user_paths import output_file

MOST_RUNS = 200  # each is open, and a process may have 256 open files on some systems


@click.command("report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--out",
    "--output",
    "output",
    type=options.UserPath(dir_okay=False),
    help="HTML file to write.  [default: report.html, for one RUN in its folder, for several in the current "
    "folder]",
)
@options.BASELINE
@click.option("--open", "open_report", is_flag=True, help="Open the report in the browser.")
@JSON
def command(runs: tuple[str, ...], output: Path | None, baseline: str | None, *, open_report: bool) -> None:
    """Write the report of one RUN, or a comparison of several, as one HTML file.

    RUN is a run folder, or the first characters of its name in the folder runs/, such as 1cb0.

    Only runs of noise and attacks can be compared. Runs of the same noise or the same attack share a figure.
    Nothing is measured again. The report of an unfinished run shows the part that is done.
    """
    if len(runs) > MOST_RUNS:
        raise UserError(f"RUN: got {len(runs):,} runs; legal: at most {MOST_RUNS}")

    from blrobust import api
    from blrobust.runs.folder import REPORT

    if output is not None:
        output = output_file(output, "--out", REPORT_SUFFIXES)
    results = api.open_run(runs[0]) if len(runs) == 1 else api.compare(*runs)
    if output is None:
        output = results.folder / REPORT if len(results.folders) == 1 else Path(REPORT)
    with drawing(output):
        results.report(output, baseline=baseline)
    if is_json():
        print_json({"report": str(output)})
    else:
        echo(f"report: {output}")
    if open_report:
        open_in_browser(output)
