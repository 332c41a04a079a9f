"""The end of a command that measures: it writes the report, prints a table and opens the report."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from blrobust.cli import output
from blrobust.errors import FailedPartsError, UserError, reason, shorten
from blrobust.runs.interruption import resumable
from blrobust.terminal import echo


@contextmanager
def drawing(report: Path) -> Iterator[None]:
    """Return a context that turns each error of drawing and writing `report` into a `UserError`.

    The errors are those of matplotlib's files (settings, fonts, cache), of the disk and of the memory.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        problem = error.strerror or reason(error)
        if error.filename == str(report):
            raise UserError(f"{report}: {problem}") from error
        place = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{report} could not be drawn: {place}{problem}") from error
    except Exception as error:
        problem = shorten(reason(error))
        raise UserError(f"{report} could not be drawn: {type(error).__name__}: {problem}") from error


def present(
    folder: Path,
    show: Callable[[Any], None],
    *,
    open_report: bool,
    baseline: str | None = None,
    failed: Sequence[str] = (),
    finish: Callable[[float], None] = lambda seconds: None,
) -> None:
    """Write report.html for the run in `folder`, and print a table with `show`, a function of its `view`.

    With `--json`, the facts and results of the run are printed instead, and with `--quiet` only its folder;
    neither is printed if anything failed.

    At the end, also if a part failed, `finish` gets the seconds that all sessions of the run measured.

    A report of noise or attacks is kept unless it has another baseline, from an earlier command with
    `--baseline`. Raises `FailedPartsError` with the lines `failed`, and with a line for a report that could
    not be drawn.
    """
    from blrobust.analysis.run_analysis import RunAnalysis
    from blrobust.analysis.view import view
    from blrobust.reports.template import shows_baseline
    from blrobust.runs.folder import REPORT, RESULTS
    from blrobust.runs.listing import facts as run_facts
    from blrobust.runs.run import Run

    report, lines = folder / REPORT, list(failed)
    with Run.open(folder) as run, resumable(folder, lambda: f"all {run.cells} cells"):
        results = view(run, baseline=baseline)
        if not isinstance(results, RunAnalysis) or not shows_baseline(report, results.baseline):
            try:
                with drawing(report):
                    from blrobust.reports import document  # seaborn takes a second to import

                    document.render([results], report)
            except UserError as error:
                again = f"'blrobust report {shlex.quote(str(folder))}' draws it later"
                lines.append(f"{error}; the results are in {folder / RESULTS}, and {again}")
        seconds = run.total_seconds()
        if output.is_for_people():
            show(results)
        elif output.is_json():
            facts = run_facts(run) | {"report": str(report), "results": results.table.to_dict("records")}
    is_drawn = len(lines) == len(failed)
    if output.is_for_people():
        if is_drawn:
            echo(f"report: {report}")
    elif not lines:
        if output.is_json():
            output.print_json(facts)
        else:
            echo(str(folder))
    if is_drawn and open_report:
        open_in_browser(report)
    finish(seconds)
    if lines:
        raise FailedPartsError(lines)


def open_in_browser(report: Path) -> None:
    """Open the report in the browser; print a line on stderr if no program opens it."""
    if click.launch(str(report)):
        echo("no program was found that opens it", err=True)
