"""Models ranked over several data sets or training seeds: Friedman's test and Nemenyi's comparison of ranks.

The blocks of the tests are data sets or training seeds, the scores are mean accuracies. See Demšar,
"Statistical comparisons of classifiers over multiple data sets", JMLR 2006.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from blrobust.analysis import statistics
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.statistics import SIGNIFICANCE

LEAST_MODELS = 3
LEAST_SEEDS = 6  # three seeds cannot reach 5 %
SAMPLE = "-sample"  # the end of the name of a data set that is a part of another
DATA_SETS, SEEDS = "data sets", "training seeds"


@dataclass(frozen=True)
class Ranking:
    """The ranks of models over blocks.

    `scores` are the scores, a row for each block and a column for each model, best mean rank first;
    `ranks` are the mean ranks, of which 1 is the best. `statistic` and `p` are those of Friedman's test. Mean
    ranks differ by Nemenyi's test if they are `critical_difference` or more apart; `pairs` are its p-values,
    a row and a column for each model.
    """

    scores: pd.DataFrame
    ranks: "pd.Series[float]"
    statistic: float
    p: float
    critical_difference: float
    pairs: pd.DataFrame

    @property
    def cliques(self) -> list[list[str]]:
        """The largest sets of models between which Nemenyi's test finds no difference, best models first."""
        models, alike = list(self.ranks.index), self.pairs.to_numpy() >= SIGNIFICANCE
        found: list[list[str]] = []
        for first in range(len(models)):
            last = first
            while last + 1 < len(models) and alike[first, last + 1]:
                last += 1
            if last > first and (not found or models[last] not in found[-1]):
                found.append(models[first : last + 1])
        return found


def ranking(scores: pd.DataFrame) -> Ranking | None:
    """Return the ranking of the columns of `scores` over its rows; higher scores are better.

    The result is None for fewer than three models, and if even the same order in every block could not reach
    5 % in Friedman's test.
    """
    blocks, models = scores.shape
    if models < LEAST_MODELS or not _can_reach(blocks, models):
        return None
    from scikit_posthocs import posthoc_nemenyi_friedman  # takes a second to import
    from scipy.stats import friedmanchisquare, studentized_range

    ranks = scores.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    scores = scores[ranks.index]
    is_tied = bool((scores.nunique(axis=1) == 1).all())  # all models in all blocks
    statistic, p = (0.0, 1.0) if is_tied else friedmanchisquare(*scores.to_numpy().T)
    pairs = posthoc_nemenyi_friedman(scores.to_numpy()).to_numpy()
    quantile = float(studentized_range.ppf(1 - SIGNIFICANCE, models, np.inf)) / 2**0.5
    return Ranking(
        scores=scores,
        ranks=ranks,
        statistic=float(statistic),
        p=float(p),
        critical_difference=quantile * (models * (models + 1) / (6 * blocks)) ** 0.5,
        pairs=pd.DataFrame(pairs, index=ranks.index, columns=ranks.index),
    )


def by_data_set(analyses: Mapping[str, Analysis]) -> pd.DataFrame:
    """Return the mean accuracy of each model on each data set, of several runs of one kind.

    The columns are the models that are complete in all runs, and the levels are those that all runs share.
    Several runs on one data set count with their mean, and a data set and its sample are one.
    """
    runs = list(analyses.values())
    levels = [level for level in runs[0].levels if all(level in other.levels for other in runs)]
    models = [model for model in runs[0].complete if all(model in other.complete for other in runs)]
    rows = [
        {"data set": analysis.run.record.dataset.name.removesuffix(SAMPLE)}
        | {model: _score(analysis, analysis.groups[model].members, levels) for model in models}
        for analysis in runs
    ]
    return pd.DataFrame(rows).groupby("data set", sort=False).mean() if levels else pd.DataFrame()


def by_seed(analysis: Analysis) -> pd.DataFrame:
    """Return the mean accuracy of each model under each training seed that all models share.

    Models of one seed are left out. The frame is empty if fewer than six seeds are shared.
    """
    seeds = {
        model: {analysis.run.cards[label].seed: label for label in analysis.groups[model].members}
        for model in analysis.complete
        if len(analysis.groups[model].members) > 1
    }
    shared = [s for s in next(iter(seeds.values()), {}) if all(s in found for found in seeds.values())]
    if len(shared) < LEAST_SEEDS:
        return pd.DataFrame()
    columns = {
        model: [_score(analysis, (labels[seed],), analysis.levels) for seed in shared]
        for model, labels in seeds.items()
    }
    return pd.DataFrame(columns, index=pd.Index(shared, name="training seed"))


def _score(analysis: Analysis, labels: tuple[str, ...], levels: list[float]) -> float:
    """Return the mean accuracy over `levels` of the trained models `labels`, and their mean."""
    grid = np.asarray(levels, dtype=np.float64)
    cells = [analysis.trained.correct[label] for label in labels]
    curves = np.array([[found[level].mean() for level in levels] for found in cells])
    return float(statistics.area(grid, curves).mean())


def _can_reach(blocks: int, models: int) -> bool:
    """Return whether the largest value of Friedman's statistic is significant."""
    from scipy.stats import chi2

    return bool(blocks > 1 and chi2.sf(blocks * (models - 1), models - 1) < SIGNIFICANCE)
