"""Models of several training seeds: closed forms, and an independent bootstrap in two levels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from support import invented

from blrobust.analysis import statistics
from blrobust.analysis.analysis import SPREAD, SUMMARY, Analysis
from blrobust.analysis.level_outcome import LevelOutcome, over_seeds
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.run_pairs import pairs
from blrobust.runs.run import Run

Images = NDArray[np.bool_]


def outcome(seeds: Sequence[Images], name: str = "model") -> LevelOutcome:
    """The outcome of a model from whether it is right, bool (n,) or (draws, n), under each seed."""
    cells = [np.atleast_2d(seed) for seed in seeds]

    def resampled() -> statistics.Floats:
        means = statistics.resampled_means(np.stack([cell.sum(axis=0) for cell in cells]))
        return over_seeds([mean / len(cells[0]) for mean in means.T], key=name)

    return LevelOutcome(cells, resampled)


def first(count: int, *, n: int = 1000) -> Images:
    return np.arange(n) < count


def test_without_variance_of_images_only_the_seeds_count() -> None:
    """All images right under one seed, none under the other: a resample is 0, 1/2 or 1."""
    assert outcome([first(1000), first(0)]).accuracy == (0.5, 0, 1)
    many = outcome([first(1000)] * 5 + [first(0)] * 5).accuracy
    assert many == (0.5, *(stats.binom.ppf([0.025, 0.975], 10, 0.5) / 10))


def test_the_interval_of_two_seeds_is_that_of_a_mixture() -> None:
    """The seeds are (a, a), (a, b), (b, b) with 1/4, 1/2, 1/4, each with the variance of its images."""
    found = outcome([first(900), first(800)]).accuracy
    means, variances = np.array([0.8, 0.85, 0.9]), np.array([0.16, 0.8 + 0.1 / 4 - 0.85**2, 0.09])

    def below(x: float) -> float:
        return float(np.array([0.25, 0.5, 0.25]) @ stats.norm.cdf(x, means, np.sqrt(variances / 1000)))

    low, high = (brentq(lambda x, p=p: below(x) - p, 0, 1) for p in (0.025, 0.975))
    assert found.value == pytest.approx(0.85)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.003), pytest.approx(high, abs=0.003))


def test_the_bootstrap_agrees_with_plain_loops() -> None:
    generator = np.random.default_rng(1)
    hardness = generator.random(150)
    ours = [0.6 * hardness + 0.4 * generator.random(150) < p for p in (0.55, 0.6, 0.7)]
    theirs = [0.6 * hardness + 0.4 * generator.random(150) < p for p in (0.4, 0.5)]
    resamples = []
    for _ in range(4000):
        images = generator.integers(0, 150, 150)
        a, b = (
            np.mean([seeds[generator.integers(len(seeds))][images].mean() for _ in seeds])
            for seeds in (ours, theirs)
        )
        resamples.append((a, a - b))
    wanted = np.quantile(resamples, [0.025, 0.975], axis=0).T
    found = [outcome(ours, "a").accuracy, outcome(ours, "a").difference(outcome(theirs, "b"))]
    for estimate, ends in zip(found, wanted, strict=True):
        assert estimate[1:] == pytest.approx(ends, abs=0.1 * (ends[1] - ends[0]))
    assert found[0].value == pytest.approx(np.mean(ours))
    assert found[1].value == pytest.approx(np.mean(ours) - np.mean(theirs))


def test_images_are_common_to_all_models() -> None:
    """One of 100 images differs: the difference has the variance of 0.01 and not of two accuracies."""
    found = outcome([first(500)] * 2, "a").difference(outcome([first(490)] * 3, "b"))
    reach = 1.96 * (0.01 * 0.99 / 1000) ** 0.5
    assert found == pytest.approx((0.01, 0.01 - reach, 0.01 + reach), abs=0.002)


def test_seeds_are_resampled_independently() -> None:
    """Two models that are right, or wrong, everywhere under a seed: -1, -1/2, 0, 1/2 or 1."""
    a, b = outcome([first(1000), first(0)], "a"), outcome([first(1000), first(0)], "b")
    difference = np.unique(a._resampled() - b._resampled(), return_counts=True)
    assert difference[0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert difference[1] / statistics.RESAMPLES == pytest.approx(np.array([1, 4, 6, 4, 1]) / 16, abs=0.03)
    assert a.p_value(b) == pytest.approx(1)


def test_the_test_is_welchs_over_seeds_where_images_are_alike() -> None:
    ours, theirs = [0.51, 0.53, 0.58], [0.45, 0.44, 0.47]
    scores = [np.repeat([sample], 50, axis=0).T for sample in (ours, theirs)]
    wanted = stats.ttest_ind(ours, theirs, equal_var=False).pvalue
    assert statistics.welch(*scores) == pytest.approx(wanted)


def test_the_test_is_paired_over_images_where_seeds_are_alike() -> None:
    ours, theirs = np.random.default_rng(2).random((2, 1, 80))
    wanted = stats.ttest_rel(ours[0], theirs[0]).pvalue
    assert statistics.welch(ours, theirs) == pytest.approx(wanted)
    # Seeds that are all alike have no variance, and their images the same one.
    assert statistics.welch(np.repeat(ours, 3, axis=0), theirs) == pytest.approx(wanted)


def test_three_seeds_seldom_differ_by_chance() -> None:
    """Of 400 pairs of models from one distribution, 5 % may differ; seeds vary as much as images."""
    generator = np.random.default_rng(4)
    images = generator.standard_normal(100)
    seeds, noise = (generator.standard_normal((400, 2, 3, size)) for size in (1, 100))
    scores = images + 0.1 * seeds + noise
    found = np.mean([statistics.welch(ours, theirs) < 0.05 for ours, theirs in scores])
    assert found < 0.06


def test_equal_and_constant_scores_differ_or_not() -> None:
    assert statistics.welch(np.full((3, 9), 0.3), np.full((1, 9), 0.3)) == 1
    assert statistics.welch(np.full((3, 9), 0.3), np.full((2, 9), 0.4)) == 0


@pytest.mark.parametrize("draws", [1, 3])
def test_one_seed_has_the_statistics_of_images(draws: int) -> None:
    a, b = np.random.default_rng(3).random((2, draws, 200)) < [[[0.5]], [[0.6]]]
    assert outcome([a]).accuracy == statistics.accuracy(a)
    assert outcome([a]).difference(outcome([b])) == statistics.difference(a, b)
    p = statistics.mcnemar(a[0], b[0]) if draws == 1 else statistics.sign_flip(a.sum(axis=0) - b.sum(axis=0))
    assert outcome([a]).p_value(outcome([b])) == p


LEVELS = [0.0, 0.5, 1.0]
CURVES = {
    "fp32": [0.9, 0.4, 0.1],
    "fft85": [0.85, 0.75, 0.6],
    "fft85-seed1": [0.81, 0.71, 0.5],
    "mine": [0.5, 0.5, 0.5],
}


def run(path: Path, curves: dict[str, list[float]], **options: object) -> Path:
    given = {"n": 200, "is_exact": True, "cards": invented.trained(curves)} | options
    return invented.run(path, curves, LEVELS, **given)


def test_several_seeds_are_one_row_of_means(tmp_path: Path) -> None:
    with Run.open(run(tmp_path / "run", CURVES)) as opened:
        analysis = Analysis(opened, "gaussian")
        frame = analysis.summary.set_index("model")
        assert list(analysis.summary.columns) == [*SUMMARY, *SPREAD]
        assert analysis.models == analysis.complete == ["fp32", "fft85", "mine"]
        row = frame.loc["fft85"]
        assert (row.seeds, row.clean, row["mean"]) == (2, pytest.approx(0.83), pytest.approx(0.71))
        assert row.clean_spread == pytest.approx(0.04 / 2**0.5)  # of two numbers: their difference / sqrt 2
        assert row.mean_spread == pytest.approx((0.7375 - 0.6825) / 2**0.5)
        assert (frame.seeds["fp32"], np.isnan(frame.clean_spread["fp32"])) == (1, True)
        accuracies = analysis.accuracies.pivot(index="model", columns="level", values="accuracy")
        assert accuracies.loc["fft85"].tolist() == pytest.approx([0.83, 0.73, 0.55])
        assert analysis.mean_difference("fft85", "mine").value == pytest.approx(0.21)
        assert analysis.compare("fft85", "mine").difference.tolist() == pytest.approx([0.33, 0.23, 0.05])
        # The rows of results.csv are the trained models.
        assert analysis.table.model.unique().tolist() == list(CURVES)
        assert analysis.table.accuracy.tolist() == pytest.approx(
            [x for curve in CURVES.values() for x in curve]
        )
        assert analysis.across_models.empty


def test_models_of_one_seed_keep_every_bit_beside_others(tmp_path: Path) -> None:
    alone = {model: CURVES[model] for model in ("fp32", "mine")}
    with Run.open(run(tmp_path / "a", alone)) as few, Run.open(run(tmp_path / "b", CURVES)) as many:
        wanted, found = Analysis(few, "gaussian"), Analysis(many, "gaussian")
        summary = found.summary[found.summary.model != "fft85"][list(SUMMARY)].reset_index(drop=True)
        pd.testing.assert_frame_equal(summary, wanted.summary, check_exact=True)
        tests = [a.compare("mine", "fp32") for a in (found, wanted)]
        pd.testing.assert_frame_equal(*tests, check_exact=True)
        assert found.mean_difference("mine", "fp32") == wanted.mean_difference("mine", "fp32")


def test_a_level_counts_when_all_seeds_have_it(tmp_path: Path) -> None:
    curves = {model: CURVES[model] for model in ("fp32", "fft85", "fft85-seed1")}
    with Run.open(run(tmp_path / "run", curves, cells=8)) as opened:
        analysis = Analysis(opened, "gaussian")
        assert list(analysis.outcomes["fft85"]) == LEVELS[:2]
        assert analysis.complete == ["fp32"]
        assert len(analysis.table) == 8
        assert len(analysis.compare("fft85", "fp32")) == 2


@pytest.mark.parametrize("baseline", ["fft85", "fft85-seed1"])
def test_a_seed_named_as_the_baseline_is_its_model(baseline: str, tmp_path: Path) -> None:
    with Run.open(run(tmp_path / "run", CURVES)) as opened:
        assert RunAnalysis(opened, baseline=baseline).kinds["gaussian"].baseline == "fft85"


def test_models_of_several_seeds_are_compared_between_runs(tmp_path: Path) -> None:
    paths = run(tmp_path / "a", CURVES), run(tmp_path / "b", CURVES, draws=2)
    with Run.open(paths[0]) as one, Run.open(paths[1]) as two:
        table = pairs(RunAnalysis(one), RunAnalysis(two))
    row = table[(table.model == "fft85") & (table.baseline == "fp32") & (table.level == 1.0)].iloc[0]
    assert (row.draws, row.difference) == (1, pytest.approx(0.45))


def test_checks_of_all_seeds_are_added_and_images_counted_once_for_each(tmp_path: Path) -> None:
    path = run(tmp_path / "run", CURVES, kind="fgsm", space="pixel", checks=True)
    with Run.open(path) as opened:
        results = RunAnalysis(opened)
        checks = results.kinds["fgsm"].checks
        assert (checks["fp32", 0.5].rejected, checks["fft85", 0.5].rejected) == (4, 8)
        assert checks["fft85", 0.5].survival == 0.25
        row = results.attacks.set_index("model").loc["fft85"]
        # Of 0.85 and 0.81 of 200 images, 0.6 and 0.5 are left at the last level.
        assert row.success == pytest.approx(1 - (0.6 + 0.5) / (0.85 + 0.81))
        assert row.accuracy[0.5] == pytest.approx(0.73)
