"""The conclusions of a report: a few sentences, decided by the paired tests alone.

In every sentence, as in every mark of a table, one model is better than another at a level if the paired test
finds it better, with Holm's correction over the levels above 0 (`analysis.comparison`).
"""

from itertools import pairwise

import pandas as pd

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import Verdict, is_at_floor
from blrobust.analysis.statistics import SIGNIFICANCE
from blrobust.reports.axes import Axis
from blrobust.reports.number_text import (
    BELOW,
    half_level,
    percent,
    points_and_span,
    points_span,
    span,
)

MOST_GROUPS = 3  # runs of neighbouring levels worth naming one by one
MOST_MODELS = 4  # models worth a part of a sentence; the tables have all
FEW_IMAGES = 100  # a report warns of fewer
NO_LEVEL = "no level"


def conclusions(analysis: Analysis, axis: Axis) -> list[str]:
    """Return the sentences of `findings` and of `missing_controls`."""
    return findings(analysis, axis) + missing_controls(analysis)


def findings(analysis: Analysis, axis: Axis) -> list[str]:
    """Return sentences about the best models, gains and losses against the baseline, and band limits."""
    complete = analysis.complete
    if not complete:
        return ["No model has all its levels yet."]
    if len(complete) == 1:
        return [_alone(analysis, complete[0], axis), *_few_images(analysis)]
    sentences = [_best(analysis, axis), *_few_images(analysis), *_against_baseline(analysis, axis)]
    return sentences + _band_limits(analysis, axis)


def missing_controls(analysis: Analysis) -> list[str]:
    """Return the sentence that names the controls not measured in a run with band-limited models, if any."""
    missing = controls.not_measured(analysis.run)
    if not missing or not analysis.complete:
        return []
    end = "Without them a gain cannot be put down to the band limit."
    return [f"Not measured in this run: {', '.join(missing)}. {end}"]


def few_images(n: int, *, noun: str = "image") -> list[str]:
    """Return a warning if an accuracy is a share of fewer than `FEW_IMAGES` images, of which `n` are left."""
    if n >= FEW_IMAGES:
        return []
    plural = "" if n == 1 else "s"
    return [f"Too few images: with {n} {noun}{plural} the intervals are wide. Use {FEW_IMAGES} or more."]


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


def _best(analysis: Analysis, axis: Axis) -> str:
    """Return the sentence that names the levels at which a model is better than every other model."""
    grid, best = analysis.levels, analysis.best
    levels = {model: [x for x in grid if best[x] == model] for model in dict.fromkeys(best.values())}
    undecided = levels.pop(None, [])
    if not levels:
        return "No model is found to be better than all others at any level."
    parts = []
    for model, won in sorted(levels.items(), key=lambda item: -len(item[1])):
        cells = analysis.outcomes[str(model)]
        guessed = [level for level in won if is_at_floor(cells[level], analysis.chance)]
        parts.append(f"{model} at {where(won, grid, axis)}{_guess(guessed, won, grid, axis)}")
    end = f" At {where(undecided, grid, axis)} no model is better than all others." if undecided else ""
    return f"Best model: {'; '.join(parts)}.{end}"


def _few_images(analysis: Analysis) -> list[str]:
    """Return a warning if there are few images, with the smallest difference, in images, that tests find."""
    n, count = len(analysis.run.labels), sum(level > 0 for level in analysis.levels)
    if n >= FEW_IMAGES or len(analysis.complete) == 1:
        return few_images(n)
    least = 1  # images on one side: their p is 2 / 2^least, times the levels above 0 by Holm's correction
    while 2 * 0.5**least * max(1, count) >= SIGNIFICANCE:
        least += 1
    images = "1 image" if n == 1 else f"{n} images"
    grid = f" and {count} level{'' if count == 1 else 's'} above 0" if count else ""
    there = " at these levels" if count > 1 else " at this level" if count else ""
    unless = "" if least > n else f" unless {least} or more images favour one of them"
    return [
        f"Too few images: with {images}{grid} a test between two models finds no difference{there}{unless}. "
        f"Use {FEW_IMAGES} or more."
    ]


def _against_baseline(analysis: Analysis, axis: Axis) -> list[str]:
    """Return gains, losses and ties against the baseline, and the levels at which all models only guess."""
    baseline, grid = analysis.baseline, analysis.levels
    if baseline not in analysis.complete:
        return [f"{baseline}, with which the others are compared, does not have all its levels yet."]
    tests = {m: analysis.compare(m, baseline) for m in analysis.complete if m != baseline}
    sentences = []
    for verdict in (Verdict.BETTER, Verdict.WORSE):
        found = {m: frame[frame.verdict == verdict] for m, frame in tests.items()}
        found = {m: frame for m, frame in found.items() if len(frame)}
        ranked = sorted(found, key=lambda m: -len(found[m]))
        parts = [_difference(model, found[model], grid, axis) for model in ranked]
        sentences.append(
            f"{verdict.capitalize()} than {baseline}: {_listed(parts)}."
            if parts
            else f"No model is found to be {verdict} than {baseline} at any level."
        )
    same = {m: f for m, f in tests.items() if not f.verdict.isin([Verdict.BETTER, Verdict.WORSE]).any()}
    if same:
        parts = [
            f"{m} (95 % intervals within {points_span(f.low.min(), f.high.max())} points)"
            for m, f in same.items()
        ]
        sentences.append(f"No difference from {baseline} found at any level: {_listed(parts)}.")
    gone = [
        level
        for row, level in enumerate(grid)
        if all(frame.verdict.iloc[row] == Verdict.NOTHING_LEFT for frame in tests.values())
    ]
    if gone:
        guess = percent(analysis.chance)
        sentences.append(
            f"Nothing is left at {where(gone, grid, axis)}: no model is measurably better than a guess "
            f"({guess})."
        )
    return sentences


def _difference(model: str, found: pd.DataFrame, grid: list[float], axis: Axis) -> str:
    """Return the levels at which a model is better, or worse, than the baseline, and its largest difference.

    `found` are the rows of `Analysis.compare` at these levels.
    """
    top = max(found.to_dict("records"), key=lambda row: abs(row["difference"]))
    margin = _margin(top["difference"], top["low"], top["high"])
    at = f", most at {axis.describe(top['level'])}" if len(found) > 1 else ""
    guess = _guess(list(found.level[found.at_floor.astype(bool)]), list(found.level), grid, axis)
    return f"{model} at {where(list(found.level), grid, axis)}{at}: {margin}{guess}"


def _margin(difference: float, low: float, high: float) -> str:
    value, interval = points_and_span(difference, low, high)
    return f"{value} points ({interval})"


def _guess(guessed: list[float], levels: list[float], grid: list[float], axis: Axis) -> str:
    """Return the end of a part of a sentence: at which of its `levels` the better model only guesses."""
    if not guessed:
        return ""
    at = "" if len(guessed) == len(levels) else f" at {where(guessed, grid, axis)}"
    return f", though no better than a guess{at}"


def _band_limits(analysis: Analysis, axis: Axis) -> list[str]:
    """Return sentences that compare the band-limited models with the best model without band limits.

    Further sentences compare them with a low-pass in front of fp32 and with other models that are better.
    """
    limited, control = controls.band_limited(analysis), controls.best_control(analysis)
    if not limited:
        return []
    if control is None:
        return [
            "No model without band-limited layers was measured in this run, so their part in this is unknown."
        ]
    means = dict(zip(analysis.summary.model, analysis.summary["mean"], strict=True))
    sentences = [
        f"Band limits against the best model without them by mean accuracy, {control} "
        f"({percent(means[control])}): {_limited_against(analysis, limited, control, axis)}."
    ]
    low_passed = controls.low_passed_fp32(analysis)
    if low_passed not in (None, control):
        text = _limited_against(analysis, limited, low_passed, axis)
        count = len(controls.low_passes_of_fp32(analysis))
        best = f" (the best of {count} by mean accuracy)" if count > 1 else ""
        sentences.append(f"Band limits against a low-pass in front of fp32, {low_passed}{best}: {text}.")
    told = {analysis.baseline, control, low_passed}
    others = [model for model in controls.without_band_limits(analysis) if model not in told]
    pairs = [(model, other) for model in limited for other in others]
    found = [(m, other, *_better_and_worse(analysis, m, other, axis)) for m, other in pairs]
    parts = [
        f"{model} is better than {other} at {better}, worse at {worse}"
        for model, other, better, worse in found
        if (better, worse) != (NO_LEVEL, NO_LEVEL)
    ]
    if parts:
        sentences.append(f"Band limits against other models without them: {_listed(parts)}.")
    named = [model for model in (control, low_passed) if model is not None]
    return sentences + _means_without_finds(analysis, limited, named)


def _means_without_finds(analysis: Analysis, limited: list[str], others: list[str]) -> list[str]:
    """Return a warning if a difference in mean accuracy seems to be found although no test finds one.

    It is for the comparisons of the models `limited` with `others`: an interval of the means without 0, but
    no level at which the test finds a difference of this sign.
    """
    for model in limited:
        for other in others:
            mean, verdicts = analysis.mean_difference(model, other), analysis.compare(model, other).verdict
            if (mean.low > 0 and not (verdicts == Verdict.BETTER).any()) or (
                mean.high < 0 and not (verdicts == Verdict.WORSE).any()
            ):
                few = f", and it is unreliable with fewer than {FEW_IMAGES} images"
                end = few if len(analysis.run.labels) < FEW_IMAGES else ""
                return [f"The interval of a difference in mean accuracy is no test{end}."]
    return []


def _better_and_worse(analysis: Analysis, model: str, other: str, axis: Axis) -> tuple[str, str]:
    """Return the levels at which `model` is better and those at which it is worse than `other`, in words."""
    better, worse = (
        levels_of(analysis, model, other, verdict, axis) for verdict in (Verdict.BETTER, Verdict.WORSE)
    )
    return better, worse


def levels_of(analysis: Analysis, model: str, other: str, verdict: Verdict, axis: Axis) -> str:
    """Return a count and the ranges of the levels at which `model` has the `verdict` against `other`."""
    frame = analysis.compare(model, other)
    return where(list(frame.level[frame.verdict == verdict]), analysis.levels, axis)


def _limited_against(analysis: Analysis, limited: list[str], control: str, axis: Axis) -> str:
    """Return the levels at which each model of `limited` is better and worse than `control`, in words.

    The text also has the difference in mean accuracy of each model.
    """
    parts = []
    for model in limited:
        better, worse = _better_and_worse(analysis, model, control, axis)
        mean = _margin(*analysis.mean_difference(model, control))
        parts.append(f"{model} is better at {better}, worse at {worse}, mean {mean}")
    return _listed(parts)


def _alone(analysis: Analysis, model: str, axis: Axis) -> str:
    """Return the sentence about the model of a run that has only one."""
    row = next(row for row in analysis.summary.to_dict("records") if row["model"] == model)
    clean = f"{model} gets {percent(row['clean'])} ({span(row['clean_low'], row['clean_high'])}) of the clean"
    if len(analysis.levels) == 1:
        return f"{clean} images right."
    half = half_level(row["half_level"], analysis.levels, axis)
    if half == BELOW:
        end = f"is {BELOW}"
    elif half.startswith(">"):
        end = "stays above 50 % on the whole grid"
    else:
        end = f"falls to 50 % at {axis.phrase.format(half)}"
    return f"{clean} images right and {percent(row['mean'])} on average over the grid; it {end}."


def _listed(parts: list[str], separator: str = "; ") -> str:
    """Return the first `MOST_MODELS` parts as one text, and the number of parts that are left out."""
    shown = parts[:MOST_MODELS]
    rest = len(parts) - len(shown)
    more = [f"and {rest} more (see the tables)"] if rest else []
    return separator.join([*shown, *more])
