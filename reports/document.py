"""The report of stored runs of any command, as one self-contained HTML file."""

from collections.abc import Sequence
from pathlib import Path

from blrobust.analysis.heatmap import HeatmapAnalysis
from blrobust.analysis.recovery import RecoveryAnalysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.view import View
from blrobust.errors import UserError
from blrobust.reports import heatmap, page, recovery


def render(views: Sequence[View], destination: Path) -> None:
    """Write the report of one run, or the comparison of several runs of noise and attacks.

    Raises `UserError` if one of several runs is a heat map or a recovery, and `OSError` if `destination`
    cannot be written.
    """
    match views:
        case [HeatmapAnalysis() as view]:
            heatmap.render(view, destination)
        case [RecoveryAnalysis() as view]:
            recovery.render(view, destination)
        case _:
            page.render([_check(view) for view in views], destination)


def _check(view: View) -> RunAnalysis:
    if not isinstance(view, RunAnalysis):
        raise UserError(
            f"RUN: got {view.run.path}, a run of {view.run.config.command}, beside others; legal: one run of "
            "heatmap or recover, or several of noise and attack"
        )
    return view
