"""The conclusions of a report: a few sentences that follow from paired tests alone.

In every sentence, as in every mark of a table, one model is better than another at a level if the paired test
of `analysis.comparison` finds a difference in its favour, with Holm's correction over the levels above 0.
"""

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import Verdict
from blrobust.analysis.statistics import SIGNIFICANCE
from blrobust.reports.axes import Axis
from blrobust.reports.band_limits import band_limits
from blrobust.reports.number_text import BELOW, half_level, percent, points_span, span
from blrobust.reports.seed_notes import seed_notes
from blrobust.reports.sentence_parts import FEW_IMAGES, guess, largest_difference, listed, where


def conclusions(analysis: Analysis, axis: Axis) -> list[str]:
    """Return the sentences of the functions `findings` and `missing_controls`."""
    return findings(analysis, axis) + missing_controls(analysis)


def findings(analysis: Analysis, axis: Axis) -> list[str]:
    """Return sentences about the best models, gains and losses against the baseline, and band limits."""
    complete = analysis.complete
    if not complete:
        return ["No model has all its levels yet."]
    notes = [*_few_images(analysis), *seed_notes(analysis.groups.values())]
    if len(complete) == 1:
        return [_alone(analysis, complete[0], axis), *notes]
    return [_best(analysis, axis), *notes, *_against_baseline(analysis, axis), *band_limits(analysis, axis)]


def missing_controls(analysis: Analysis) -> list[str]:
    """Return the sentence that names the controls not measured in a run with band-limited models, if any."""
    missing = controls.not_measured(analysis)
    if not missing or not analysis.complete:
        return []
    end = "Without them a gain cannot be put down to the band limit."
    return [f"Not measured in this run: {', '.join(missing)}. {end}"]


def few_images(n: int, *, noun: str = "image") -> list[str]:
    """Return a list with a warning if `n`, the number of images, is below `FEW_IMAGES`; else an empty list.

    `noun` is the word for an image in the warning.
    """
    if n >= FEW_IMAGES:
        return []
    plural = "" if n == 1 else "s"
    return [f"Too few images: with {n} {noun}{plural} the intervals are wide. Use {FEW_IMAGES} or more."]


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
        guessed = [level for level in won if cells[level].is_at_floor(analysis.chance)]
        parts.append(f"{model} at {where(won, grid, axis)}{guess(str(model), guessed, won, grid, axis)}")
    end = f" At {where(undecided, grid, axis)} no model is better than all others." if undecided else ""
    return f"Best model: {'; '.join(parts)}.{end}"


def _few_images(analysis: Analysis) -> list[str]:
    """Return a warning if there are few images, with the smallest difference, in images, that tests find.

    The warning has no such difference if a model has several training seeds.
    """
    n, count = len(analysis.run.labels), sum(level > 0 for level in analysis.levels)
    if n >= FEW_IMAGES or len(analysis.complete) == 1 or analysis.has_seeds:
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
    """Return sentences on gains, losses and ties against the baseline, and levels where all models guess."""
    baseline, grid = analysis.baseline, analysis.levels
    if baseline not in analysis.complete:
        return [f"{baseline}, with which the others are compared, does not have all its levels yet."]
    tests = {m: analysis.compare(m, baseline) for m in analysis.complete if m != baseline}
    sentences = []
    for verdict in (Verdict.BETTER, Verdict.WORSE):
        found = {m: frame[frame.verdict == verdict] for m, frame in tests.items()}
        found = {m: frame for m, frame in found.items() if len(frame)}
        ranked = sorted(found, key=lambda m: -len(found[m]))
        parts = [
            largest_difference(m, found[m], grid, axis, better=m if verdict == Verdict.BETTER else baseline)
            for m in ranked
        ]
        sentences.append(
            f"{verdict.capitalize()} than {baseline}: {listed(parts)}."
            if parts
            else f"No model is found to be {verdict} than {baseline} at any level."
        )
    same = {m: f for m, f in tests.items() if not f.verdict.isin([Verdict.BETTER, Verdict.WORSE]).any()}
    if same:
        parts = [
            f"{m} (95 % intervals within {points_span(f.low.min(), f.high.max())} points)"
            for m, f in same.items()
        ]
        sentences.append(f"No difference from {baseline} found at any level: {listed(parts)}.")
    gone = [
        level
        for row, level in enumerate(grid)
        if all(frame.verdict.iloc[row] == Verdict.NOTHING_LEFT for frame in tests.values())
    ]
    if gone:
        sentences.append(
            f"Nothing is left at {where(gone, grid, axis)}: no model is measurably better than a guess "
            f"({percent(analysis.chance)})."
        )
    return sentences


def _alone(analysis: Analysis, model: str, axis: Axis) -> str:
    """Return the sentence about the only complete model of a run."""
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
