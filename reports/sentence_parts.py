"""Parts of the sentences of a report: levels in words, differences, lists."""

from itertools import pairwise

import pandas as pd

from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import Verdict
from blrobust.analysis.statistics import SAME
from blrobust.reports.axes import Axis
from blrobust.reports.number_text import points_and_span

MOST_GROUPS = 3  # runs of neighbouring levels worth naming one by one
MOST_MODELS = 4  # models worth a part of a sentence; the tables have all
NO_LEVEL = "no level"
FEW_IMAGES = 100  # a report warns of fewer


def where(levels: list[float], grid: list[float], axis: Axis) -> str:
    """Return a count and the ranges of levels, such as "15 of 21 levels (sigma 0.3 to 1.6, 1.8)".

    `grid` are all levels that were measured, `levels` are some of them.
    """
    indices = [index for index, level in enumerate(grid) if level in levels]
    if not indices:
        return NO_LEVEL
    count = f"{len(indices)} of {len(grid)} levels"
    if len(indices) == len(grid):
        count = f"all {len(grid)} levels" if len(grid) > 1 else "the only level"
    starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(indices)) if b != a + 1), len(indices)]
    groups = [(grid[indices[a]], grid[indices[b - 1]]) for a, b in pairwise(starts)]
    if len(groups) > MOST_GROUPS:
        return f"{count} (from {axis.describe(grid[indices[0]])} on, with gaps)"
    ends = [(axis.format(a), axis.format(b)) for a, b in groups]
    names = ", ".join(a if a == b else f"{a} to {b}" for a, b in ends)
    return f"{count} ({axis.phrase.format(names)})"


def levels_of(analysis: Analysis, model: str, other: str, verdict: Verdict, axis: Axis) -> str:
    """Return a count and the ranges of the levels at which `model` has the `verdict` against `other`.

    The text also states the levels at which the better model is no better than a guess (`guess`).
    """
    frame, grid = analysis.compare(model, other), analysis.levels
    found = frame[frame.verdict == verdict]
    better = model if verdict == Verdict.BETTER else other
    levels, guessed = list(found.level), list(found.level[found.at_floor.astype(bool)])
    return f"{where(levels, grid, axis)}{guess(better, guessed, levels, grid, axis)}"


def guess(name: str, guessed: list[float], levels: list[float], grid: list[float], axis: Axis) -> str:
    """Return words that state at which of the `levels` the better model, `name`, is no better than a guess.

    `guessed` are these levels, and `grid` are all measured levels.
    """
    if not guessed:
        return ""
    at = "" if len(guessed) == len(levels) else f" at {where(guessed, grid, axis)}"
    return f", though {name} is no better than a guess{at}"


def largest_difference(model: str, found: pd.DataFrame, grid: list[float], axis: Axis, *, better: str) -> str:
    """Return the levels at which a model is better, or worse, than the baseline, and its largest difference.

    `found` are the rows of `Analysis.compare` at these levels, and `better` is the better one of the two
    models. Of equal differences the first is named.
    """
    sizes = found.difference.abs()
    top = found[sizes >= sizes.max() - SAME].iloc[0]
    size = margin(top["difference"], top["low"], top["high"])
    at = f", most at {axis.describe(top['level'])}" if len(found) > 1 else ""
    levels, guessed = list(found.level), list(found.level[found.at_floor.astype(bool)])
    end = guess(better, guessed, levels, grid, axis)
    return f"{model} at {where(levels, grid, axis)}{at}: {size}{end}"


def margin(difference: float, low: float, high: float) -> str:
    """Return a difference in percentage points with its interval in brackets."""
    value, interval = points_and_span(difference, low, high)
    return f"{value} points ({interval})"


def listed(parts: list[str], separator: str = "; ") -> str:
    """Return the first `MOST_MODELS` parts as one text, and the number of parts that are left out."""
    shown = parts[:MOST_MODELS]
    rest = len(parts) - len(shown)
    more = [f"and {rest} more (see the tables)"] if rest else []
    return separator.join([*shown, *more])
