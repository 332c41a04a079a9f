"""Tests of mean accuracy over the levels, between the models of an analysis."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from blrobust.analysis import statistics
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import Verdict
from blrobust.analysis.statistics import SIGNIFICANCE, Estimate, Floats


class MeanTest(NamedTuple):
    """The difference in mean accuracy between two models, its adjusted p-value and the result of the test."""

    model: str
    other: str
    difference: Estimate
    p_holm: float
    verdict: Verdict


def mean_tests(analysis: Analysis, pairs: Sequence[tuple[str, str]]) -> list[MeanTest]:
    """Return the tests of the mean accuracy of the first model of each pair against the second.

    Both models must be complete. The score of an image under a training seed is its area under the curve over
    the levels (`statistics.area`), and the test is `statistics.welch`, for one seed each the paired t-test
    over images. The p-values are adjusted by Holm's method over the pairs.
    """
    scores = {model: _scores(analysis, model) for model in dict.fromkeys(chain(*pairs))}
    p = np.array([statistics.welch(scores[model], scores[other]) for model, other in pairs])
    found = []
    for (model, other), p_holm in zip(pairs, statistics.holm(p), strict=True):
        difference = analysis.mean_difference(model, other)
        sign = Verdict.BETTER if difference.value > 0 else Verdict.WORSE
        verdict = sign if p_holm < SIGNIFICANCE else Verdict.TIE
        found.append(MeanTest(model, other, difference, float(p_holm), verdict))
    return found


def _scores(analysis: Analysis, model: str) -> Floats:
    """Return the area under the curve of each image, (seeds, n)."""
    cells = [analysis.outcomes[model][level].correct for level in analysis.levels]
    curves = [
        np.stack([correct.mean(axis=0) for correct in seed], axis=-1) for seed in zip(*cells, strict=True)
    ]
    return statistics.area(np.asarray(analysis.levels, dtype=np.float64), np.stack(curves))
