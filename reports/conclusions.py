"""The conclusions of a report: a few sentences computed from the results."""

from collections.abc import Hashable
from itertools import pairwise
from math import isinf, isnan
from typing import Any

from blrobust.analysis.analysis import BASELINE, Analysis
from blrobust.reports.axes import Axis
from blrobust.reports.tables import level_at, percent, points, span

Row = dict[Hashable, Any]
Curve = dict[float, Row]  # a model's rows of `Analysis.table` by level

MOST_GROUPS = 3  # runs of neighbouring levels worth naming one by one


def conclusions(analysis: Analysis, axis: Axis) -> list[str]:
    """Return sentences on the models that beat the baseline: levels, margin, clean accuracy, controls.

    A model beats another at a level where their 95 % intervals are disjoint, which is stricter than a
    paired test.
    """
    curves: dict[str, Curve] = {model: {} for model in analysis.run.models}
    for row in analysis.table.to_dict("records"):
        curves[row["model"]][row["level"]] = row
    rows = analysis.summary.to_dict("records")
    summary = {r["model"]: r for r in rows if not isnan(r["mean"])}
    if not summary:
        return ["No model has all its levels yet."]
    baseline = BASELINE if BASELINE in summary else next(iter(summary))
    others = [model for model in summary if model != baseline]
    if not others:
        return [_alone(summary[baseline], axis, analysis.levels)]
    others.sort(key=lambda model: -summary[model]["mean"])
    best = others[0]
    plain = [model for model in others if not summary[model]["effective_compression"] > 0]
    above = {model: _above(curves[model], curves[baseline]) for model in others}
    winners = [model for model in others if any(above[model].values())]
    sentences = _versus(curves[best], curves[baseline], best, baseline, axis, any_winner=bool(winners))
    if best in winners and best not in plain:
        sentences.append(_over_controls({m: curves[m] for m in plain}, curves, best, baseline, axis))
    parts = [f"{model} at {_where(above[model], axis)}" for model in winners if model != best]
    if parts:
        sentences.append(f"{'Also above' if best in winners else 'Above'} {baseline}: {'; '.join(parts)}.")
    return sentences


def _versus(
    ours: Curve, theirs: Curve, best: str, baseline: str, axis: Axis, *, any_winner: bool
) -> list[str]:
    """Return the comparison of the best other model by mean with the baseline.

    `any_winner`: some model beats the baseline at some level.
    """
    top = _widest(ours, theirs)
    both = f"{_estimate(ours[top])} against {_estimate(theirs[top])}"
    above, below = _above(ours, theirs), _above(theirs, ours)
    if any(above.values()):
        sentences = [
            f"{best} beats {baseline} with disjoint 95 % intervals at {_where(above, axis)}; the margin "
            f"is largest at {axis.describe(top)}: {both}."
        ]
    else:
        subject = f"{best} does not beat" if any_winner else "No model beats"
        sentences = [
            f"{subject} {baseline} with disjoint 95 % intervals at any level. {best} has the "
            f"highest mean accuracy of the others; at {axis.describe(top)} it reaches {both}."
        ]
    if any(below.values()):
        sentences.append(f"{baseline} is ahead of {best} in the same sense at {_where(below, axis)}.")
    clean = min(ours)
    mine, other = ours[clean]["accuracy"], theirs[clean]["accuracy"]
    sentences.append(
        f"On clean images {best} gets {percent(mine)} right and {baseline} {percent(other)} "
        f"({points(mine - other)} points)."
    )
    return sentences


def _over_controls(
    controls: dict[str, Curve], curves: dict[str, Curve], best: str, baseline: str, axis: Axis
) -> str:
    """Return the margin of a band-limited winner over the models that drop no frequencies."""
    if not controls:
        return (
            "No control without band limits (such as fp16 or fp32-early) was measured, so the part of the "
            "difference that the band limit itself explains is unknown."
        )
    top = _widest(curves[best], curves[baseline])
    control = max(controls, key=lambda model: controls[model][top]["accuracy"])
    reached = controls[control][top]["accuracy"]
    lead = curves[best][top]["accuracy"] - reached
    return (
        f"The best control without band limits, {control}, reaches {percent(reached)} at "
        f"{axis.describe(top)}, {abs(100 * lead):.1f} points {'below' if lead >= 0 else 'above'} {best}."
    )


def _alone(row: Row, axis: Axis, levels: list[float]) -> str:
    """Return the sentence about a single model."""
    half = axis.phrase.format(level_at(row["half_level"], levels, axis))
    end = "stays above 50 % on the whole grid" if isinf(row["half_level"]) else f"falls to 50 % at {half}"
    return (
        f"{row['model']} gets {percent(row['clean'])} ({span(row['clean_low'], row['clean_high'])}) of the "
        f"clean images right and {percent(row['mean'])} on average over the grid; it {end}."
    )


def _widest(ours: Curve, theirs: Curve) -> float:
    """Return the level with the largest margin."""
    return max(ours, key=lambda level: ours[level]["accuracy"] - theirs[level]["accuracy"])


def _above(ours: Curve, theirs: Curve) -> dict[float, bool]:
    """Return for each level whether the whole interval is above the other."""
    return {level: ours[level]["ci_low"] > theirs[level]["ci_high"] for level in ours}


def _where(holds: dict[float, bool], axis: Axis) -> str:
    """Return number and ranges of levels, such as "15 of 21 levels (sigma 0.3 to 1.6, 1.8)"."""
    levels = list(holds)
    indices = [index for index, level in enumerate(levels) if holds[level]]
    if not indices:
        return "no level"
    starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(indices)) if b != a + 1), len(indices)]
    groups = [(levels[indices[a]], levels[indices[b - 1]]) for a, b in pairwise(starts)]
    if len(groups) > MOST_GROUPS:
        names = f"from {axis.format(levels[indices[0]])} on, with gaps"
    else:
        ends = [(axis.format(a), axis.format(b)) for a, b in groups]
        names = ", ".join(a if a == b else f"{a} to {b}" for a, b in ends)
    return f"{len(indices)} of {len(levels)} levels ({axis.phrase.format(names)})"


def _estimate(row: Row) -> str:
    return f"{percent(row['accuracy'])} ({span(row['ci_low'], row['ci_high'])})"
