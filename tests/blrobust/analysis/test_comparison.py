"""Verdicts between two models on invented outcomes."""

import numpy as np
import pytest

from blrobust.analysis.comparison import Verdict, compare
from blrobust.analysis.level_outcome import LevelOutcome


def cells(right: dict[float, int], *, n: int = 100) -> dict[float, LevelOutcome]:
    """The first images are classified correctly, as many as `right` has at each level."""
    return {
        level: LevelOutcome([(np.arange(n) < count)[None]], lambda: np.empty(0))
        for level, count in right.items()
    }


@pytest.mark.parametrize("levels", [1, 4, 20])
def test_the_clean_comparison_does_not_depend_on_the_levels_beside_it(levels: int) -> None:
    """Six images of 100 differ: 2 / 2^6 is 0.031 for one test, and no difference for 2 levels or more."""
    right = {0.0: 90, **{float(level): 50 for level in range(1, levels + 1)}}
    frame = compare(cells(right | {0.0: 96}), cells(right), chance=0.1)
    assert frame.p_holm[0] == pytest.approx(2 / 2**6)
    assert list(frame.verdict) == [Verdict.BETTER, *[Verdict.TIE] * levels]


@pytest.mark.parametrize(("levels", "verdict"), [(1, Verdict.BETTER), (2, Verdict.TIE)])
def test_levels_above_zero_are_one_family(levels: int, verdict: Verdict) -> None:
    right = {float(level): 50 for level in range(levels + 1)}
    frame = compare(cells({level: 56 if level else 50 for level in right}), cells(right), chance=0.1)
    assert frame.p_holm[1] == pytest.approx(levels * 2 / 2**6)
    assert list(frame.verdict) == [Verdict.TIE, *[verdict] * levels]
