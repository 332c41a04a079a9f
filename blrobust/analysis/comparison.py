"""Comparison of two models on the same images, level by level, by one paired test."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
import pandas as pd

from blrobust.analysis import statistics
from blrobust.analysis.level_outcome import LevelOutcome
from blrobust.analysis.statistics import Floats
from blrobust.errors import UserError

FP32 = "fp32"  # the baseline of a run that has it
COLUMNS = ("level", "draws", "difference", "low", "high", "p", "p_holm", "verdict", "at_floor")

Cells = Mapping[float, LevelOutcome]  # by level


class Verdict(StrEnum):
    """The result of the comparison of two models at one level."""

    BETTER = "better"  # p < 0.05, adjusted by `adjust`
    WORSE = "worse"  # the same for the other model
    NOTHING_LEFT = "nothing left"  # no difference found, and both models are at the floor
    TIE = "no difference found"


def choose_baseline(name: str | None, models: list[str]) -> str:
    """Return the model that the others are compared with: `name`, or by default "fp32", else the first model.

    Raises `UserError` for a name that is not one of the models.
    """
    if name is None:
        return FP32 if FP32 in models else models[0]
    if name not in models:
        raise UserError(f"baseline: got {name!r}; legal: {', '.join(models)}")
    return name


def compare(ours: Cells, theirs: Cells, *, chance: float) -> pd.DataFrame:
    """Return the comparison of two models, a row for each level that both have.

    `difference` is the accuracy of the first model (`ours`) minus that of the second (`theirs`), with the 95
    % interval from `low` to `high`. `p` is the p-value of `LevelOutcome.p_value`, `p_holm` that of `adjust`,
    and `verdict` is a `Verdict`. `at_floor` is true if neither model is better than a guess, whose accuracy
    is `chance`.
    """
    levels = [level for level in ours if level in theirs]
    records = [
        (
            level,
            len(ours[level].correct[0]),
            *ours[level].difference(theirs[level]),
            ours[level].p_value(theirs[level]),
        )
        for level in levels
    ]
    frame = pd.DataFrame.from_records(records, columns=list(COLUMNS[:-3]))
    frame["p_holm"] = adjust(frame.p.to_numpy(dtype=float), levels)
    at_floor = [ours[level].is_at_floor(chance) and theirs[level].is_at_floor(chance) for level in levels]
    found = zip(frame.difference, frame.p_holm, at_floor, strict=True)
    frame["verdict"] = [_verdict(difference, p_holm, at_floor=floor) for difference, p_holm, floor in found]
    frame["at_floor"] = at_floor
    return frame


def adjust(p_values: Floats, levels: Sequence[float]) -> Floats:
    """Return the p-values (levels,) of one test at several levels, adjusted by Holm's method above level 0.

    Level 0 has no perturbation, so its test is the same for every noise and attack of a run. Its p-value is
    not adjusted, because the adjusted one would depend on the number of levels of the noise or attack in
    whose table it is shown.
    """
    is_perturbed = np.asarray(levels) > 0
    adjusted = p_values.copy()
    adjusted[is_perturbed] = statistics.holm(p_values[is_perturbed])
    return adjusted


def _verdict(difference: float, p_holm: float, *, at_floor: bool) -> Verdict:
    if p_holm < statistics.SIGNIFICANCE:
        return Verdict.BETTER if difference > 0 else Verdict.WORSE
    return Verdict.NOTHING_LEFT if at_floor else Verdict.TIE
