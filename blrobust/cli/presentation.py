"""The end of a command that measures: write the report, print the table, open the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from blrobust.runs.interruption import resumable
from blrobust.terminal import echo


def present(
    folder: Path, show: Callable[[Any], None], *, open_report: bool, baseline: str | None = None
) -> None:
    """Print the table of the run in `folder` with `show`, a function of its `view`; write report.html.

    A report of noise or attacks is kept unless it has another baseline, from an earlier `--baseline`.
    """
    from blrobust.analysis.run_analysis import RunAnalysis
    from blrobust.analysis.view import view
    from blrobust.reports.template import shows_baseline
    from blrobust.runs.folder import REPORT
    from blrobust.runs.run import Run

    report = folder / REPORT
    with Run.open(folder) as run, resumable(folder, lambda: f"all {run.cells} cells"):
        results = view(run, baseline=baseline)
        if not isinstance(results, RunAnalysis) or not shows_baseline(report, results.baseline):
            from blrobust.reports import document  # seaborn takes a second to import

            document.render([results], report)
        show(results)
    announce(report, open_report=open_report)


def announce(report: Path, *, open_report: bool) -> None:
    """Print the path of the report, and open it in the browser with `open_report`."""
    echo(f"report: {report}")
    if open_report and click.launch(str(report)):
        echo("no program was found that opens it", err=True)
