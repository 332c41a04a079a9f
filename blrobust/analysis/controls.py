"""The models with which band-limited models are compared, and the controls that a run lacks.

A control is a model that tests another explanation of a result than the band limit.
"""

from pathlib import Path

from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import FP32
from blrobust.models.model_names import CONTROLS
from blrobust.runs.record import Card
from blrobust.runs.run import Run

PRECISIONS = ("fp16", "bf16")
LOW_PASS = "lowpass"  # the word of a channel in front of a model


def is_band_limited(card: Card) -> bool:
    """Return whether the model with this card has band-limited layers; a channel in front does not count."""
    return card.effective_compression > 0 or card.nominal_compression > 0


def band_limited(analysis: Analysis) -> list[str]:
    """Return the models with band-limited layers and results at all levels, highest mean accuracy first."""
    return _by_mean(analysis, limited=True)


def without_band_limits(analysis: Analysis) -> list[str]:
    """Return the models with results at all levels and no band limits, the highest mean accuracy first."""
    return _by_mean(analysis, limited=False)


def best_control(analysis: Analysis) -> str | None:
    """Return the model without band-limited layers that has the highest mean accuracy, or None."""
    return next(iter(without_band_limits(analysis)), None)


def low_passed_fp32(analysis: Analysis) -> str | None:
    """Return the model that is fp32 behind a low-pass, with the highest mean accuracy of several, or None."""
    return next(iter(low_passes_of_fp32(analysis)), None)


def low_passes_of_fp32(analysis: Analysis) -> list[str]:
    """Return the models that are fp32 behind a low-pass, the highest mean accuracy first."""
    cards = analysis.run.cards
    return [model for model in without_band_limits(analysis) if _is_low_passed_fp32(cards[model])]


def not_measured(run: Run) -> list[str]:
    """Return in words the controls that a run with band-limited models lacks; empty for other runs."""
    cards = list(run.cards.values())
    if not any(is_band_limited(card) for card in cards):
        return []
    names = {name for card in cards if not card.channels for name in _names(card)}
    found = {
        FP32: FP32 in names,
        f"a low-pass in front of {FP32}": any(_is_low_passed_fp32(card) for card in cards),
        **{name: name in names for name in CONTROLS},
        " or ".join(PRECISIONS): any(card.precision in PRECISIONS for card in cards),
    }
    return [name for name, measured in found.items() if not measured]


def _by_mean(analysis: Analysis, *, limited: bool) -> list[str]:
    mean = dict(zip(analysis.summary.model, analysis.summary["mean"], strict=True))
    cards = analysis.run.cards
    chosen = [model for model in analysis.complete if is_band_limited(cards[model]) == limited]
    return sorted(chosen, key=lambda model: -mean[model])


def _names(card: Card) -> set[str]:
    """Return a model's label, and its checkpoint's file name without data set and architecture."""
    stem = Path(card.checkpoint or "").stem
    return {card.label, stem.removeprefix(f"{card.dataset}-{card.arch}-")}


def _is_low_passed_fp32(card: Card) -> bool:
    has_low_pass = any(channel.startswith(LOW_PASS) for channel in card.channels)
    return has_low_pass and (FP32 in _names(card) or card.label.endswith(f"+{FP32}"))
