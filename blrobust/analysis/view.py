"""The results of a run of any command; the class depends on the command."""

from collections.abc import Sequence
from pathlib import Path

from blrobust.analysis.heatmap import HeatmapAnalysis
from blrobust.analysis.recovery import RecoveryAnalysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.errors import UserError
from blrobust.escaping import escape
from blrobust.perturbations.noise import REVISIONS as NOISE
from blrobust.runs.configuration import Heatmap, Recover
from blrobust.runs.run import Run

View = RunAnalysis | HeatmapAnalysis | RecoveryAnalysis


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return a name for each of the run folders: its last part, or its path if two have the same last part.

    Names are escaped, because tables and pages cannot contain bytes that are not UTF-8.
    """
    names = [escape(folder.resolve().name) for folder in folders]
    return [
        name if names.count(name) == 1 else escape(str(folder))
        for name, folder in zip(names, folders, strict=True)
    ]


def view(run: Run, *, baseline: str | None = None) -> View:
    """Return the results of a run; `baseline` is the name of a model, or None for the default.

    Raises `UserError` for an unknown kind of perturbation, for a baseline that is not a model of the run, and
    for any baseline with a heat map or a recovery.
    """
    if not isinstance(run.config, Heatmap) and (unknown := set(run.kinds) - {*NOISE, *ATTACKS}):
        raise UserError(
            f"{run.path}: got the kind {sorted(unknown)[0]!r}; legal: gaussian, uniform or an attack that "
            "'blrobust attacks' lists"
        )
    match run.config:
        case Heatmap() | Recover() if baseline is not None:
            raise UserError(
                f"baseline: got {baseline!r} for {run.path}, a run of {run.config.command}; legal: runs of "
                "noise or attack"
            )
        case Heatmap() as config:
            return HeatmapAnalysis(run, config)
        case Recover() as config:
            return RecoveryAnalysis(run, config)
    return RunAnalysis(run, baseline=baseline)
