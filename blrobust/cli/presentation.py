"""The end of a command that measures: it writes the report, prints a table and opens the report."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.runs.interruption import resumable
from blrobust.terminal import echo

if TYPE_CHECKING:
    from blrobust.analysis.run_analysis import RunAnalysis


def present(
    folder: Path, show: Callable[["RunAnalysis"], None], *, baseline: str | None, open_report: bool
) -> None:
    """Write report.html for the run in `folder`, unless it is up to date, and print a table with `show`.

    A report with another baseline, from an earlier command with `--baseline`, is not up to date. With
    `open_report`, the report is opened in the browser.
    """
    from blrobust.analysis.run_analysis import RunAnalysis
    from blrobust.reports.template import shows_baseline
    from blrobust.runs.run import REPORT, Run

    report = folder / REPORT
    with Run.open(folder) as run, resumable(folder, lambda: f"all {run.cells} cells"):
        results = RunAnalysis(run, baseline=baseline)
        if not shows_baseline(report, results.baseline):
            from blrobust.reports import page  # seaborn takes a second to import

            page.render([results], report)
        show(results)
    announce(report, open_report=open_report)


def announce(report: Path, *, open_report: bool) -> None:
    """Print the path of the report; with `open_report`, open the report in the browser."""
    echo(f"report: {report}")
    if open_report and click.launch(str(report)):
        echo("no program was found that opens it", err=True)
