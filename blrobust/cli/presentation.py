"""The end of a command that measures: write the report, print the table, open the report."""

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
    """Print the table of the run in `folder` with `show`; write report.html unless it is up to date.

    A report with another baseline, from an earlier command with `--baseline`, is not up to date.
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
    """Print the path of the report, and open it in the browser with `open_report`."""
    echo(f"report: {report}")
    if open_report and click.launch(str(report)):
        echo("no program was found that opens it", err=True)
