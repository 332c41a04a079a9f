"""The sentences of a report that compare band-limited models with models without band limits."""

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import Verdict
from blrobust.reports.axes import Axis
from blrobust.reports.number_text import percent
from blrobust.reports.sentence_parts import FEW_IMAGES, NO_LEVEL, levels_of, listed, margin


def band_limits(analysis: Analysis, axis: Axis) -> list[str]:
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
    compared = [(model, control) for model in limited]
    for (low_pass, is_matched), models in _low_passes(analysis, limited).items():
        if low_pass != control:
            text = _limited_against(analysis, models, low_pass, axis)
            count = len(controls.low_passes_of_fp32(analysis))
            best = f" (the best of {count} by mean accuracy)" if count > 1 and not is_matched else ""
            which = f"{'matched' if is_matched else 'that is not matched'} to {' or '.join(models)}"
            sentences.append(
                f"Band limits against a low-pass in front of fp32 {which}, {low_pass}{best}: {text}."
            )
            compared += [(model, low_pass) for model in models]
    others = [model for model in controls.without_band_limits(analysis) if model != analysis.baseline]
    pairs = [(model, other) for model in limited for other in others if (model, other) not in compared]
    found = [(m, other, *better_and_worse(analysis, m, other, axis)) for m, other in pairs]
    parts = [
        f"{model} is better than {other} at {better}, worse at {worse}"
        for model, other, better, worse in found
        if (better, worse) != (NO_LEVEL, NO_LEVEL)
    ]
    if parts:
        sentences.append(f"Band limits against other models without them: {listed(parts)}.")
    return sentences + _means_without_finds(analysis, compared)


def _low_passes(analysis: Analysis, limited: list[str]) -> dict[tuple[str, bool], list[str]]:
    """Return the low-pass in front of fp32 to name for each model of `limited`, and whether it is matched.

    The values are the models that share it; without any low-pass the result is empty.
    """
    found: dict[tuple[str, bool], list[str]] = {}
    for model in limited:
        if low_pass := controls.low_pass_of(analysis, model):
            found.setdefault(low_pass, []).append(model)
    return found


def _means_without_finds(analysis: Analysis, pairs: list[tuple[str, str]]) -> list[str]:
    """Return a warning if a difference in mean accuracy seems to be found although no test finds one.

    It is for these `pairs` of models: an interval of the means without 0, but no level at which the test
    finds a difference of this sign.
    """
    for model, other in pairs:
        mean, verdicts = analysis.mean_difference(model, other), analysis.compare(model, other).verdict
        if (mean.low > 0 and not (verdicts == Verdict.BETTER).any()) or (
            mean.high < 0 and not (verdicts == Verdict.WORSE).any()
        ):
            few = f", and it is unreliable with fewer than {FEW_IMAGES} images"
            end = few if len(analysis.run.labels) < FEW_IMAGES else ""
            return [f"The interval of a difference in mean accuracy is no test{end}."]
    return []


def better_and_worse(analysis: Analysis, model: str, other: str, axis: Axis) -> tuple[str, str]:
    """Return the levels at which `model` is better and those at which it is worse than `other`, in words."""
    better, worse = (
        levels_of(analysis, model, other, verdict, axis) for verdict in (Verdict.BETTER, Verdict.WORSE)
    )
    return better, worse


def _limited_against(analysis: Analysis, limited: list[str], control: str, axis: Axis) -> str:
    """Return the levels at which each model of `limited` is better and worse than `control`, in words.

    The text also has the difference in mean accuracy of each model.
    """
    parts = []
    for model in limited:
        better, worse = better_and_worse(analysis, model, control, axis)
        mean = margin(*analysis.mean_difference(model, control))
        parts.append(f"{model} is better at {better}, worse at {worse}, mean {mean}")
    return listed(parts)
