"""The models with which band-limited models are compared, and the controls that a run lacks.

A control is a model that tests an explanation of a result other than the band limit.
"""

from pathlib import Path

from blconv.band import Band
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import FP32
from blrobust.models.channel_names import recorded_cuts
from blrobust.models.channels import LowPass
from blrobust.models.model_names import CONTROLS, Settings, is_plain, settings_of, split_seed
from blrobust.runs.record import Card

PRECISIONS = ("fp16", "bf16")
LOW_PASS = "lowpass"  # the word of a channel in front of a model
COMPACT = "-compact"  # the end of a name
SIZE = (32, 32)  # height and width of the images for which cuts are recorded


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


def low_passes_of_fp32(analysis: Analysis) -> list[str]:
    """Return the models that are fp32 behind a low-pass, the highest mean accuracy first."""
    cards = analysis.cards
    return [model for model in without_band_limits(analysis) if _is_low_passed_fp32(cards[model])]


def matched_low_passes(analysis: Analysis, model: str) -> list[str]:
    """Return those of `low_passes_of_fp32` whose filter is matched to the band-limited `model`."""
    cards = analysis.cards
    return [low for low in low_passes_of_fp32(analysis) if _is_matched(cards[low], cards[model])]


def low_pass_of(analysis: Analysis, model: str) -> tuple[str, bool] | None:
    """Return the low-pass in front of fp32 to compare with a band-limited model, and whether it is matched.

    It is the one whose filter is matched to the model, else the one with the highest mean accuracy; None if
    there is none.
    """
    if matched := matched_low_passes(analysis, model):
        return matched[0], True
    return next(((low_pass, False) for low_pass in low_passes_of_fp32(analysis)), None)


def trained_control(analysis: Analysis, name: str) -> str | None:
    """Return the control whose name begins with `name` (one of `CONTROLS`), or None if there is none.

    It must have results at all levels. Of several, the one with the highest mean accuracy is returned.
    """
    cards = analysis.cards
    return next(
        (
            model
            for model in without_band_limits(analysis)
            if not cards[model].channels and any(known.startswith(name) for known in _names(cards[model]))
        ),
        None,
    )


def fixed_rates(analysis: Analysis) -> list[str]:
    """Return fp32 and the models that differ from it in the band limit alone, by effective compression."""
    cards = analysis.cards
    chosen = [model for model in analysis.complete if _is_fixed_rate(cards[model])]
    return sorted(chosen, key=lambda model: cards[model].effective_compression)


def compact_pairs(analysis: Analysis) -> list[tuple[str, str]]:
    """Return the complete models with compact transform sizes, each with the one of the paper's sizes."""
    pairs = ((model, model.removesuffix(COMPACT)) for model in analysis.complete)
    return [(model, paper) for model, paper in pairs if model != paper and paper in analysis.complete]


def not_measured(analysis: Analysis) -> list[str]:
    """Return in words the controls that a run with band-limited models lacks; empty for other runs.

    Models that are tested at another band limit than that of their training need no controls.
    """
    cards = [card for card in analysis.cards.values() if card.tested_at is None]
    if not any(is_band_limited(card) for card in cards):
        return []
    names = {name for card in cards if not card.channels for name in _names(card)}
    low_passed = [card for card in cards if _is_low_passed_fp32(card)]
    unmatched = [
        card
        for card in cards
        if is_band_limited(card) and not any(_is_matched(low, card) for low in low_passed)
    ]
    found = {
        FP32: FP32 in names,
        **{_matched_control(card): False for card in unmatched},
        **{name: name in names for name in CONTROLS},
        " or ".join(PRECISIONS): any(card.precision in PRECISIONS for card in cards),
    }
    return [name for name, measured in found.items() if not measured]


def _by_mean(analysis: Analysis, *, limited: bool) -> list[str]:
    mean = dict(zip(analysis.summary.model, analysis.summary["mean"], strict=True))
    cards = analysis.cards
    chosen = [model for model in analysis.complete if is_band_limited(cards[model]) == limited]
    return sorted(chosen, key=lambda model: -mean[model])


def _is_fixed_rate(card: Card) -> bool:
    if card.channels or card.tested_at is not None or card.label in CONTROLS or not is_plain(card.label):
        return False
    settings = settings_of(card.label)
    return settings == Settings(compression=settings.compression)


def _names(card: Card) -> set[str]:
    """Return a model's label, and its checkpoint's file name without data set and architecture.

    Both are without a training seed: a seed that was measured alone is the same control. A model that is
    tested at another band limit than that of its training has only its label.
    """
    if card.tested_at is not None:
        return {card.label}
    stem = Path(card.checkpoint or "").stem.removeprefix(f"{card.dataset}-{card.arch}-")
    return {split_seed(name)[0] for name in (card.label, stem)}


def _is_low_passed_fp32(card: Card) -> bool:
    has_low_pass = any(channel.startswith(LOW_PASS) for channel in card.channels)
    return has_low_pass and (FP32 in _names(card) or card.label.endswith(f"+{FP32}"))


def _is_matched(low_passed: Card, limited: Card) -> bool:
    """Return whether fp32 behind a low-pass has the filter that was matched to a band-limited model.

    `limited` records the compression of the matched filter. Filters with different compressions are the same
    if they keep the same frequencies of the images.
    """
    if len(low_passed.channels) != 1 or limited.channels:
        return False
    (channel,), names = low_passed.channels, _names(limited)
    if channel.removeprefix(f"{LOW_PASS}-") in names:
        return True
    cuts = recorded_cuts().get(f"{low_passed.dataset}-{low_passed.arch}", {})
    kept = _kept(cuts.get(channel.removeprefix(f"{LOW_PASS}-"), channel.removeprefix(LOW_PASS)))
    return kept is not None and any(_kept(cut) == kept for name, cut in cuts.items() if name in names)


def _kept(compression: float | str) -> Band | None:
    """Return the frequencies that a low-pass filter keeps, or None for an illegal `compression`."""
    try:
        return LowPass(float(compression)).band(*SIZE)
    except ValueError:
        return None


def _matched_control(limited: Card) -> str:
    """Return the low-pass control of a band-limited model in words, with its name if a filter is recorded."""
    cuts = recorded_cuts().get(f"{limited.dataset}-{limited.arch}", {})
    recorded = [name for name in sorted(_names(limited)) if name in cuts and not limited.channels]
    name = f" ({LOW_PASS}-{recorded[0]}+{FP32})" if recorded else ""
    return f"a low-pass in front of {FP32} matched to {limited.label}{name}"
