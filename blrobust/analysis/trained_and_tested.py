"""Clean accuracy by the band limit in the training and in the test (paper, Table 1 and Figures 3 and 5)."""

from typing import Any, Literal

import pandas as pd

from blrobust.analysis.analysis import Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.models.model_names import compression_of, is_plain, settings_of, split_seed, split_tested_at

COLUMNS = ("trained", "tested_at", "compression", "model", "accuracy", "ci_low", "ci_high")
FULL = {"fft": "fp32", "fp16-fft": "fp16", "bf16-fft": "bf16"}  # band-limited family -> its full spectrum

Topic = Literal["mismatch", "rates", ""]


def topic(results: RunAnalysis) -> Topic:
    """Return the subject of a run that measures clean images only, or "" for any other run.

    It is "mismatch" if models are tested at other band limits than that of their training (`NAME@NN`), and
    "rates" if several models are tested at that of their training.
    """
    analyses = list(results.kinds.values())
    if len(analyses) != 1 or analyses[0].levels != [0.0]:
        return ""
    cards = results.run.cards.values()
    if any(card.tested_at is not None for card in cards):
        return "mismatch"
    limits = {card.effective_compression for card in cards if not card.channels}
    return "rates" if len(limits) > 1 else ""


def mismatch(analysis: Analysis) -> pd.DataFrame:
    """Return a row per model `NAME@NN`: NAME as `trained`, NN as `tested_at`, and its clean accuracy.

    `compression` is the effective one in the test, and `model` the label. Models without `@NN` are left out.
    """
    rows = []
    for row in _clean(analysis):
        trained, percent = split_tested_at(row["model"])
        if percent is not None:
            rows.append({**row, "trained": trained, "tested_at": percent})
    return _frame(rows)


def rates(analysis: Analysis) -> pd.DataFrame:
    """Return a row per model that is tested at the band limit of its training, and its clean accuracy.

    `trained` names the family of models that differ in nothing but the band limit, such as "fp32, fftNN". The
    full spectrum belongs to each family that has other rows. Models behind channels and controls are left
    out.
    """
    clean = _clean(analysis)
    labels = [row["model"] for row in clean]
    rows = [
        {**row, "trained": family, "tested_at": None}
        for row in clean
        for family in _families(row["model"], labels)
    ]
    return _frame(rows)


def is_as_trained(trained: str, tested_at: int) -> bool:
    """Return whether the model `trained`, tested at a band limit of `tested_at` %, is as in its training."""
    return is_plain(trained) and settings_of(trained).compression == compression_of(tested_at)


def _clean(analysis: Analysis) -> list[dict[str, Any]]:
    frame = analysis.accuracies[analysis.accuracies.level == 0]
    rows = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    return [row | {"compression": analysis.cards[row["model"]].effective_compression} for row in rows]


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("compression", kind="stable")


def _families(label: str, labels: list[str]) -> list[str]:
    """Return the families that a model belongs to; those of `labels` decide for the full spectrum."""
    if label in FULL.values():
        others = [family for other in labels for family in [_family(other)] if family]
        return [family for family in dict.fromkeys(others) if family.partition(",")[0] == label]
    found = _family(label)
    return [] if found is None else [found]


def _family(label: str) -> str | None:
    """Return the family of a band-limited model; None for any other model."""
    name, _ = split_seed(label)
    for prefix, full in FULL.items():
        number = name.removesuffix("-compact").removeprefix(prefix)
        if name.startswith(prefix) and number.isdigit():
            return f"{full}, {prefix}NN{'-compact' if name.endswith('-compact') else ''}"
    return None
