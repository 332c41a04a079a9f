"""Friedman's test and Nemenyi's comparison of mean ranks, beside scikit-posthocs, a hand example and
published numbers: RobustBench's accuracies on CIFAR-10-C (the first four models and "Standard")."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from support import invented

from blrobust.analysis import ranking
from blrobust.analysis.analysis import Analysis
from blrobust.runs.run import Run

PUBLISHED = Path(__file__).with_name("robustbench_corruptions.csv")
LEVELS = [0.0, 0.5, 1.0]


def by_corruption():
    """Mean accuracies over the five severities: a row for each of 15 corruptions, a column for each model."""
    frame = pd.read_csv(PUBLISHED, header=[0, 1], index_col=0)
    return frame.T.groupby(level=0).mean()


def test_published_accuracies():
    scores = by_corruption()
    assert scores["Standard"].mean() == pytest.approx(0.7346, abs=5e-5)
    assert scores.loc["gaussian_noise", "Standard"] == pytest.approx(0.4703, abs=5e-5)
    found = ranking.ranking(scores.iloc[:, :4])
    assert found.statistic == pytest.approx(45.0)
    assert found.p == pytest.approx(9.25e-10, rel=1e-3)
    assert list(found.ranks) == [1, 2, 3, 4]


def test_a_hand_example():
    # Ranks by row: 1 2 3, 1 2 3, 2 1 3, 1 2 3; sums 5, 7, 12.
    scores = pd.DataFrame({"a": [9, 8, 6, 7], "b": [5, 7, 7, 6], "c": [1, 2, 3, 4]}, dtype=float)
    found = ranking.ranking(scores)
    assert found.ranks.to_dict() == {"a": 1.25, "b": 1.75, "c": 3.0}
    # 12 / (4 * 3 * 4) * (25 + 49 + 144) - 3 * 4 * 4
    assert found.statistic == pytest.approx(12 / 48 * 218 - 48)
    # Demšar's table: q = 2.343 for three models
    assert found.critical_difference == pytest.approx(2.343 * (3 * 4 / (6 * 4)) ** 0.5, rel=1e-3)
    assert found.cliques == [["a", "b"], ["b", "c"]]


@pytest.mark.parametrize(("blocks", "models"), [(6, 3), (10, 4), (15, 7)])
def test_pairs_are_those_of_scikit_posthocs_and_of_the_critical_difference(blocks, models):
    scores = pd.DataFrame(np.random.default_rng(blocks).random((blocks, models)) + np.arange(models) / 4)
    found = ranking.ranking(scores)
    wanted = scikit_posthocs.posthoc_nemenyi_friedman(scores.to_numpy())
    for a in scores:
        for b in scores:
            assert found.pairs.loc[a, b] == pytest.approx(wanted.loc[a, b])
            if a != b:
                far = abs(found.ranks[a] - found.ranks[b]) > found.critical_difference
                assert (found.pairs.loc[a, b] < 0.05) == far


def test_too_few_blocks_or_models_have_no_ranking():
    scores = by_corruption()
    assert ranking.ranking(scores.iloc[:, :2]) is None
    assert ranking.ranking(scores.iloc[:2, :3]) is None  # p is 0.135 at best
    assert ranking.ranking(scores.iloc[:3, :3]) is not None  # p is 0.0498 at best
    assert ranking.ranking(pd.DataFrame()) is None


def test_models_that_are_alike_have_no_difference():
    found = ranking.ranking(pd.DataFrame(0.5, index=range(8), columns=list("abc")))
    assert (found.statistic, found.p) == (0.0, 1.0)
    assert found.cliques == [["a", "b", "c"]]


def test_scores_by_data_set_and_by_seed(tmp_path):
    curves = {"fp32": [0.9, 0.4, 0.1], "fft85": [0.8, 0.6, 0.5], "fft50": [0.9, 0.5, 0.2]}
    opened = {
        name: Run.open(invented.run(tmp_path / name, curves, LEVELS, dataset=name, is_exact=True))
        for name in ("cifar10", "cifar10-sample", "svhn")
    }
    analyses = {name: Analysis(run, "gaussian") for name, run in opened.items()}
    scores = ranking.by_data_set(analyses)
    assert list(scores.index) == ["cifar10", "svhn"]  # a sample is no other data set
    assert scores.loc["svhn", "fp32"] == pytest.approx((0.9 / 2 + 0.4 + 0.1 / 2) / 2)
    assert ranking.by_seed(analyses["svhn"]).empty
    for run in opened.values():
        run.close()
    seeds = {f"{m}{'' if s == 0 else f'-seed{s}'}": c for m, c in curves.items() for s in range(6)}
    cards = invented.trained(seeds)
    with Run.open(invented.run(tmp_path / "seeds", seeds, LEVELS, is_exact=True, cards=cards)) as run:
        scores = ranking.by_seed(Analysis(run, "gaussian"))
    assert scores.shape == (6, 3)
    assert scores["fft85"].tolist() == pytest.approx([(0.8 / 2 + 0.6 + 0.5 / 2) / 2] * 6)
