"""Comparison of two models on the same images, level by level, by one paired test."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
import pandas as pd

from blrobust.analysis import statistics
from blrobust.analysis.statistics import Bools, Floats
from blrobust.errors import UserError

FP32 = "fp32"  # the baseline of a run that has it
COLUMNS = ("level", "draws", "difference", "low", "high", "p", "p_holm", "verdict", "at_floor")

Cells = Mapping[float, Bools]  # correctness (draws, n) by level


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

    `difference` is the accuracy of the first model (`ours`) minus that of the second (`theirs`); its 95 %
    interval is from `low` to `high`. `p` is the p-value of McNemar's test if there is one draw, and of the
    sign-flip test over images if there are several draws. `p_holm` is the p-value adjusted by `adjust`, and
    `verdict` is a `Verdict`. `at_floor` is true if neither model is better than a guess, whose accuracy is
    `chance`.
    """
    levels = [level for level in ours if level in theirs]
    records = [(level, len(ours[level]), *_test(ours[level], theirs[level])) for level in levels]
    frame = pd.DataFrame.from_records(records, columns=list(COLUMNS[:-3]))
    frame["p_holm"] = adjust(frame.p.to_numpy(dtype=float), levels)
    at_floor = [is_at_floor(ours[level], chance) and is_at_floor(theirs[level], chance) for level in levels]
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


def _test(ours: Bools, theirs: Bools) -> tuple[float, float, float, float]:
    """Return the difference in accuracy, the lower and the upper end of its interval, and the p-value.

    `ours` and `theirs`, bool (draws, n), state whether the predictions of the two models are correct.
    """
    if len(ours) == 1:
        p = float(statistics.mcnemar(ours[0], theirs[0]))
    else:
        p = statistics.sign_flip(ours.sum(axis=0) - theirs.sum(axis=0))
    return (*statistics.difference(ours, theirs), p)


def _verdict(difference: float, p_holm: float, *, at_floor: bool) -> Verdict:
    if p_holm < statistics.SIGNIFICANCE:
        return Verdict.BETTER if difference > 0 else Verdict.WORSE
    return Verdict.NOTHING_LEFT if at_floor else Verdict.TIE


def is_at_floor(correct: Bools, chance: float) -> bool:
    """Return whether predictions are no better than a guess.

    `correct`, bool (draws, n), states whether each prediction is correct. The predictions are no better than
    a guess if the accuracy is at most `chance`, or if its interval contains `chance` and does not end above
    twice `chance`.
    """
    accuracy = statistics.accuracy(correct)
    return accuracy.value <= chance or (accuracy.low <= chance and accuracy.high <= 2 * chance)
