"""The overview of a report with several kinds of noise and attacks: a matrix of kinds and models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import Verdict
from blrobust.reports.axes import Axis
from blrobust.reports.number_text import NONE, percent

SIGNS = {Verdict.BETTER: "▲", Verdict.WORSE: "▼"}


@dataclass(frozen=True)
class Cell:
    """The accuracy of a model at the reference level: as text, and as a share, or None if it is missing."""

    text: str
    share: float | None = None


@dataclass(frozen=True)
class Row:
    """One kind in one run: anchor of its section, name, reference level, and a cell for each model."""

    anchor: str
    name: str
    level: str
    cells: list[Cell]


@dataclass(frozen=True)
class Matrix:
    """The rows of an overview, the models of its columns, and the baselines that its marks refer to."""

    models: list[str]
    rows: list[Row]
    baselines: list[str]


Part = tuple[str, str, Axis, Analysis]  # anchor of a section, name of the row, axis, results


def matrix(parts: Sequence[Part], models: list[str]) -> Matrix | None:
    """Return the accuracy of `models` under each kind at its reference level; None for fewer than two kinds.

    A cell with ▲ or ▼ marks a model for which the paired test against the baseline finds a difference.
    """
    if len(parts) < 2:
        return None
    rows = []
    for anchor, name, axis, analysis in parts:
        level = reference_level(analysis)
        found = _accuracies(analysis, level)
        cells = [_cell(found[m], _sign(analysis, m, level)) if m in found else Cell(NONE) for m in models]
        rows.append(Row(anchor, name, axis.describe(level), cells))
    return Matrix(models, rows, list(dict.fromkeys(analysis.baseline for *_, analysis in parts)))


def reference_level(analysis: Analysis) -> float:
    """Return the first level at which the baseline has lost half of its clean accuracy.

    It is the last level if there is none, or if the baseline does not have all its levels yet.
    """
    if analysis.baseline not in analysis.complete:
        return analysis.levels[-1]
    clean = _accuracies(analysis, analysis.levels[0])[analysis.baseline]
    for level in analysis.levels[1:]:
        if _accuracies(analysis, level)[analysis.baseline] <= clean / 2:
            return level
    return analysis.levels[-1]


def _accuracies(analysis: Analysis, level: float) -> Mapping[str, float]:
    rows = analysis.accuracies[analysis.accuracies.level == level]
    return dict(zip(rows.model, rows.accuracy, strict=True))


def _cell(accuracy: float, sign: str) -> Cell:
    return Cell(f"{sign} {percent(accuracy)}".strip(), accuracy)


def _sign(analysis: Analysis, model: str, level: float) -> str:
    if model == analysis.baseline or analysis.baseline not in analysis.outcomes:
        return ""
    tests = analysis.compare(model, analysis.baseline)
    verdicts = list(tests.verdict[tests.level == level])
    return SIGNS.get(verdicts[0], "") if verdicts else ""
