"""The questions about band limits that a run with trained controls can answer, each with one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import FP32, Verdict
from blrobust.analysis.mean_tests import MeanTest, mean_tests
from blrobust.models.model_names import CONTROLS
from blrobust.reports.axes import Axis
from blrobust.reports.band_limits import better_and_worse
from blrobust.reports.number_text import p_value, percent, points_and_span
from blrobust.reports.paper_curves import MODELS as PUBLISHED
from blrobust.reports.paper_points import level_points
from blrobust.reports.paper_tables import closeness
from blrobust.reports.sentence_parts import largest_difference, listed, margin

BEYOND = {  # a control, and what it does
    "fp32-early": "early stopping",
    "fp32-lowpass": "training on low-passed images",
    "fp32-noise": "training on noisy images",
    "fp32-narrow": "a narrower network",
}
FRONT = "a low-pass in front of fp32"
HELPS = {Verdict.BETTER: "helps", Verdict.WORSE: "is worse", Verdict.TIE: "no difference found"}
WORTH = {Verdict.BETTER: "yes", Verdict.WORSE: "no", Verdict.TIE: "not shown"}
LEAST_RATES = 3  # fp32 and two band limits


@dataclass(frozen=True)
class Answer:
    """A question about band limits, and the sentence that answers it."""

    question: str
    text: str


def answers(analysis: Analysis, axis: Axis) -> list[Answer]:
    """Return the answers of a run with fp32, a band limit and a trained control; empty for other runs.

    All models must have results at all levels. The answers are about the published band limits if the run has
    any of them, because each further model would weaken the tests. Whether a model helps is decided by its
    mean accuracy over the levels (`mean_tests`), with Holm's correction over the models of a question.
    """
    limited = controls.band_limited(analysis)
    limited = [model for model in limited if model in PUBLISHED] or limited
    trained = [name for name in CONTROLS if controls.trained_control(analysis, name)]
    if not limited or FP32 not in analysis.complete or not trained:
        return []
    found = [
        Answer(f"Does a band limit help beyond {FRONT}?", _beyond_low_pass(analysis, limited, axis)),
        *(
            Answer(f"Does a band limit help beyond {act}?", _beyond_control(analysis, limited, name, axis))
            for name, act in BEYOND.items()
        ),
        Answer("Is a band limit worth its clean accuracy?", _worth(analysis, limited)),
        Answer("Where does it lose?", _losses(analysis, limited, axis)),
    ]
    if text := _by_rate(analysis):
        found.append(Answer("Is a stronger band limit more robust?", text))
    if text := _compact(analysis, axis):
        found.append(Answer("Do compact transform sizes equal the paper's?", text))
    if text := closeness(level_points(analysis), axis):
        found.append(Answer("How close are the published points?", text))
    return found


def _beyond_low_pass(analysis: Analysis, limited: list[str], axis: Axis) -> str:
    found = {model: controls.low_pass_of(analysis, model) for model in limited}
    pairs = [(model, low_pass[0]) for model, low_pass in found.items() if low_pass]
    if not pairs:
        return f"Not measured in this run: {FRONT}."
    notes = {model: " (not matched)" for model, low_pass in found.items() if low_pass and not low_pass[1]}
    return _verdicts(analysis, pairs, axis, notes=notes)


def _beyond_control(analysis: Analysis, limited: list[str], name: str, axis: Axis) -> str:
    control = controls.trained_control(analysis, name)
    if control is None:
        return f"Not measured in this run: {name}."
    return _verdicts(analysis, [(model, control) for model in limited], axis, notes={})


def _verdicts(
    analysis: Analysis, pairs: Sequence[tuple[str, str]], axis: Axis, *, notes: Mapping[str, str]
) -> str:
    """Return whether the first model of each pair has a higher mean accuracy than the second.

    `notes` are about the second models, by the first ones.
    """
    tests = mean_tests(analysis, pairs)
    parts = [
        f"{test.model} against {test.other}{notes.get(test.model, '')}: {HELPS[test.verdict]}, mean "
        f"{_mean(test)}, {_levels(analysis, test, axis)}"
        for test in tests
    ]
    return f"{_lead([WORTH[test.verdict] for test in tests])}. {listed(parts)}."


def _lead(words: list[str]) -> str:
    """Return the word that the models have in common, "In part" if some have a yes, or "Not shown"."""
    if len(set(words)) == 1:
        return words[0].capitalize()
    return "In part" if WORTH[Verdict.BETTER] in words else WORTH[Verdict.TIE].capitalize()


def _mean(test: MeanTest) -> str:
    value, interval = points_and_span(*test.difference)
    return f"{value} points ({interval}; {p_value(test.p_holm)})"


def _levels(analysis: Analysis, test: MeanTest, axis: Axis) -> str:
    better, worse = better_and_worse(analysis, test.model, test.other, axis)
    return f"better at {better}, worse at {worse}"


def _worth(analysis: Analysis, limited: list[str]) -> str:
    """Return clean and mean accuracy of each model against fp32, and the control that has more of both."""
    parts, words = [], []
    for test in mean_tests(analysis, [(model, FP32) for model in limited]):
        better = _dominating(analysis, test.model) if test.verdict == Verdict.BETTER else None
        words.append(WORTH[test.verdict] if better is None else WORTH[Verdict.WORSE])
        text = f"{_clean(analysis, test.model, FP32)}, mean {_mean(test)}"
        if better is not None:
            text += f", but {better.model} has {_clean(analysis, better.model, test.model)} and mean "
            text += f"{margin(*better.difference)} against it"
        parts.append(f"{test.model}: {words[-1]}, {text}")
    return f"{_lead(words)}, against fp32 and the other models without band limits. {listed(parts)}."


def _dominating(analysis: Analysis, model: str) -> MeanTest | None:
    """Return the test against `model` of the best model without band limits that has more of both.

    That model is better by mean accuracy, and has at least the clean accuracy. None if there is none.
    """
    others = [other for other in controls.without_band_limits(analysis) if other != FP32]
    tests = mean_tests(analysis, [(other, model) for other in others]) if others else []
    return next(
        (
            test
            for test in tests
            if test.verdict == Verdict.BETTER and analysis.compare(test.other, test.model).difference[0] <= 0
        ),
        None,
    )


def _clean(analysis: Analysis, model: str, other: str) -> str:
    row = analysis.compare(model, other).iloc[0]
    return f"clean {margin(row['difference'], row['low'], row['high'])}"


def _losses(analysis: Analysis, limited: list[str], axis: Axis) -> str:
    """Return the levels at which each model is worse than fp32, with the largest loss."""
    frames = {model: analysis.compare(model, FP32) for model in limited}
    lost = {model: frame[frame.verdict == Verdict.WORSE] for model, frame in frames.items()}
    parts = [
        largest_difference(model, frame, analysis.levels, axis, better=FP32)
        for model, frame in lost.items()
        if len(frame)
    ]
    none = [model for model, frame in lost.items() if frame.empty]
    nowhere = f"No loss is found for {', '.join(none)}." if none else ""
    return f"Against fp32: {listed(parts)}. {nowhere}".rstrip() if parts else nowhere


def _by_rate(analysis: Analysis) -> str | None:
    """Return whether the mean accuracy rises with the band limit, from each rate of the run to the next."""
    rates = controls.fixed_rates(analysis)
    if len(rates) < LEAST_RATES:
        return None
    steps = mean_tests(analysis, [(higher, lower) for lower, higher in pairwise(rates)])
    count = {verdict: sum(step.verdict == verdict for step in steps) for verdict in Verdict}
    cards = analysis.cards
    first, last = (percent(cards[model].effective_compression) for model in (rates[0], rates[-1]))
    over = (
        f"Mean accuracy rises in {count[Verdict.BETTER]} and falls in {count[Verdict.WORSE]} of the "
        f"{len(steps)} steps from {first} to {last} effective compression"
    )
    if count[Verdict.BETTER] == len(steps):
        least = min(steps, key=lambda step: step.difference.value)
        return f"Yes. {over}; the smallest is from {least.other} to {least.model}: {_mean(least)}."
    lead = "No" if count[Verdict.WORSE] else "Not shown in every step"
    rest = sorted(
        (step for step in steps if step.verdict != Verdict.BETTER),
        key=lambda step: step.verdict != Verdict.WORSE,
    )
    parts = [
        f"from {step.other} to {step.model} {_mean(step)}"
        + ("" if step.verdict == Verdict.WORSE else ", no difference found")
        for step in rest
    ]
    return f"{lead}. {over}: {listed(parts)}."


def _compact(analysis: Analysis, axis: Axis) -> str | None:
    """Return a sentence on the accuracy of models with compact transform sizes beside those of the paper.

    It is None if the run has no such pair.
    """
    pairs = controls.compact_pairs(analysis)
    if not pairs:
        return None
    tests = mean_tests(analysis, pairs)
    parts = [
        f"{test.model} against {test.other}: mean {_mean(test)}, {_levels(analysis, test, axis)}"
        for test in tests
    ]
    is_found = any(
        test.verdict != Verdict.TIE
        or analysis.compare(test.model, test.other).verdict.isin([Verdict.BETTER, Verdict.WORSE]).any()
        for test in tests
    )
    return f"{'No' if is_found else 'No difference found'}. {listed(parts)}."
