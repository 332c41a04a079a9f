import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from blrobust.analysis import statistics

PUBLISHED = {"fp32": 0.415, "fp16": 0.425, "fp32_early": 0.449, "fft50": 0.512, "fft85": 0.767}
MEANS = {"fp32": 29.3, "fp16": 30.1, "fp32_early": 30.8, "fft50": 33.8, "fft85": 44.6}


def published():
    from importlib.resources import files

    with (files("blrobust.reports") / "reference" / "gaussian_noise.csv").open() as file:
        return pd.read_csv(file)


@given(st.integers(1, 10_000), st.floats(0, 1))
@settings(deadline=None)
def test_wilson_is_the_closed_form(n, share):
    z = stats.norm.ppf(0.975)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    estimate = statistics.wilson(share, n)
    assert estimate.value == share
    assert estimate.low == pytest.approx(max(0, centre - half), abs=1e-12)
    assert estimate.high == pytest.approx(min(1, centre + half), abs=1e-12)
    assert 0 <= estimate.low <= estimate.high <= 1


def test_one_draw_is_worth_its_images():
    correct = np.random.default_rng(0).random((1, 50)) < 0.3
    assert statistics.effective_n(correct) == 50


@pytest.mark.parametrize("value", [True, False])
def test_no_spread_is_worth_its_images(value):
    assert statistics.effective_n(np.full((25, 20), value)) == 20


def test_one_image_is_worth_one_trial():
    assert statistics.effective_n(np.array([[True], [False], [True]])) == 1


def test_repeating_a_draw_adds_nothing():
    once = np.random.default_rng(1).random((1, 400)) < 0.6
    assert statistics.effective_n(np.repeat(once, 25, axis=0)) == pytest.approx(399)


def test_independent_draws_count_in_full():
    correct = np.random.default_rng(2).random((25, 400)) < 0.6
    assert statistics.effective_n(correct) == pytest.approx(10_000, rel=0.15)
    assert statistics.effective_n(correct) <= 10_000


def test_images_that_differ_less_than_chance_count_in_full():
    correct = np.array([[True, False] * 4, [False, True] * 4])  # every image: right in one of two draws
    assert statistics.effective_n(correct) == 16


def test_several_draws_cover_the_truth_where_the_naive_interval_does_not():
    generator = np.random.default_rng(3)
    ours = naive = 0
    trials = 400
    for _ in range(trials):
        chances = generator.beta(0.15, 0.15, size=20)  # most images nearly always right or wrong
        correct = generator.random((25, 20)) < chances
        estimate = statistics.accuracy(correct)
        ours += estimate.low <= 0.5 <= estimate.high
        estimate = statistics.wilson(float(correct.mean()), correct.size)
        naive += estimate.low <= 0.5 <= estimate.high
    assert naive / trials < 0.5
    assert 0.91 < ours / trials < 0.985


def test_crossing_level_on_a_hand_drawn_curve():
    levels = np.array([0.0, 1.0, 2.0, 4.0])
    curves = np.array(
        [
            [0.9, 0.6, 0.4, 0.1],  # half way between 1 and 2
            [0.9, 0.5, 0.4, 0.1],  # exactly at 1
            [0.9, 0.8, 0.7, 0.3],  # between 2 and 4
            [0.9, 0.4, 0.8, 0.1],  # the first of two
            [0.5, 0.4, 0.3, 0.1],  # from the start
            [0.9, 0.9, 0.9, 0.51],  # never
        ]
    )
    expected = [1.5, 1.0, 3.0, 0.8, 0.0, math.inf]
    assert statistics.crossing_level(levels, curves) == pytest.approx(expected)
    for curve, level in zip(curves, expected, strict=True):
        assert statistics.crossing_level(levels, curve) == pytest.approx(level)


@pytest.mark.parametrize("model", list(PUBLISHED))
def test_published_curves_have_their_published_summaries(model):
    frame = published()
    level = statistics.crossing_level(frame.iloc[:, 0].to_numpy(), frame[model].to_numpy() / 100)
    assert float(level) == pytest.approx(PUBLISHED[model], abs=0.0006)
    assert frame[model].mean() == pytest.approx(MEANS[model], abs=0.051)


def test_bootstrap_has_the_analytic_spread():
    generator = np.random.default_rng(4)
    right = (generator.random((2, 2000)) < [[0.2], [0.7]]).astype(np.int64)
    means = statistics.resampled_means(right)
    assert means.shape == (statistics.RESAMPLES, 2)
    share = right.mean(axis=1)
    assert means.mean(axis=0) == pytest.approx(share, abs=0.001)
    assert means.std(axis=0) == pytest.approx(np.sqrt(share * (1 - share) / 2000), rel=0.06)
    both = right.mean(axis=0)  # the area of a curve: its spread over images includes their correlation
    assert means.mean(axis=1).std() == pytest.approx(both.std() / math.sqrt(2000), rel=0.06)
    estimate = statistics.interval(share[0], means[:, 0])
    wilson = statistics.wilson(share[0], 2000)
    assert [estimate.low, estimate.high] == pytest.approx([wilson.low, wilson.high], abs=0.002)


def test_bootstrap_rows_share_their_resamples_and_repeat_bit_for_bit():
    right = np.random.default_rng(5).integers(0, 26, (3, 300))
    together = statistics.resampled_means(right)
    assert np.array_equal(together[:, 1:2], statistics.resampled_means(right[1:2]))
    assert not np.array_equal(together, statistics.resampled_means(right, seed=1))


def test_intervals_may_end_beyond_the_grid():
    levels = np.r_[np.linspace(0.4, 0.6, 1950), np.full(50, np.inf)]
    estimate = statistics.interval(0.5, levels)
    assert 0.4 < estimate.low < 0.41
    assert 0.59 < estimate.high <= 0.6
    estimate = statistics.interval(0.5, np.r_[levels[:-51], np.full(51, np.inf)])
    assert math.isinf(estimate.high)


def test_mcnemar_is_the_exact_binomial_test():
    generator = np.random.default_rng(6)
    first = generator.random((5, 200)) < 0.5
    second = generator.random((5, 200)) < np.array([[0.5], [0.55], [0.6], [0.7], [0.9]])
    p = statistics.mcnemar(first, second)
    for row in range(5):
        b = int((first[row] & ~second[row]).sum())
        c = int((second[row] & ~first[row]).sum())
        assert p[row] == pytest.approx(stats.binomtest(b, b + c).pvalue, rel=1e-9)
        oracle = statsmodels_mcnemar([[0, b], [c, 0]], exact=True).pvalue
        assert p[row] == pytest.approx(oracle, rel=1e-9)
        assert float(statistics.mcnemar(first[row], second[row])) == p[row]
    assert statistics.mcnemar(first[0], first[0]) == 1


def test_sign_flip_equals_the_full_enumeration():
    generator = np.random.default_rng(7)
    for _ in range(5):
        differences = generator.integers(-3, 4, 12)
        oracle = stats.permutation_test(
            (differences.astype(float),),
            lambda x, axis: x.sum(axis=axis),
            permutation_type="samples",
            n_resamples=10**6,
            vectorized=True,
        )
        assert statistics.sign_flip(differences) == pytest.approx(oracle.pvalue, abs=1e-12)


def test_sign_flip_of_one_draw_is_mcnemar():
    generator = np.random.default_rng(8)
    first, second = generator.random((2, 3000)) < [[0.6], [0.63]]
    p = statistics.sign_flip(first.astype(np.int64) - second)
    assert p == pytest.approx(float(statistics.mcnemar(first, second)), rel=1e-8)


def test_sign_flip_of_many_images_and_draws_is_never_negative():
    generator = np.random.default_rng(11)
    for lead in (0, 1, 2, 4):
        differences = np.clip(generator.integers(-5, 6, 10_000) + lead, -5, 5)
        p = statistics.sign_flip(differences)
        assert 0 <= p <= 1
        normal = 2 * stats.norm.sf(abs(differences.sum()) / math.sqrt((differences**2).sum()))
        assert p == pytest.approx(normal, rel=0.02, abs=1e-13)


def test_sign_flip_at_its_ends():
    assert statistics.sign_flip(np.zeros(10, np.int64)) == 1
    assert 0 <= statistics.sign_flip(np.full(5000, 25)) < 1e-9
    assert statistics.sign_flip(np.array([2, -2, 1, -1])) == 1


def test_cochrans_q_is_the_textbook_formula():
    correct = np.random.default_rng(9).random((4, 150)) < [[0.5], [0.6], [0.55], [0.7]]
    k = len(correct)
    columns, rows = correct.sum(axis=1), correct.sum(axis=0)
    q = (k - 1) * (k * (columns**2).sum() - columns.sum() ** 2) / (k * rows.sum() - (rows**2).sum())
    assert statistics.cochrans_q(correct) == pytest.approx(stats.chi2.sf(q, k - 1), rel=1e-9)
    assert statistics.cochrans_q(np.repeat(correct[:1], 3, axis=0)) == 1


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.5, never falling.
    adjusted = statistics.holm(np.array([0.03, 0.01, 0.5, 0.02]))
    assert adjusted == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert statistics.holm(np.array([0.6, 0.9])) == pytest.approx([1, 1])


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(10).random(21) ** 4
    assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@pytest.mark.parametrize(
    ("both", "ours", "theirs", "neither"), [(50, 10, 3, 37), (100, 0, 0, 0), (0, 0, 9, 1)]
)
def test_the_interval_of_a_difference_is_agresti_and_mins(both, ours, theirs, neither):
    """Computed from the four cells, each with half an image more (Agresti and Min 2005, section 3)."""
    pairs = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, ours, theirs, neither], axis=0).astype(bool)
    found = statistics.difference(pairs[None, :, 0], pairs[None, :, 1])
    n, b, c = len(pairs) + 2, ours + 0.5, theirs + 0.5
    reach = 1.959964 * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    assert found.value == pytest.approx((ours - theirs) / len(pairs))
    assert found.low == pytest.approx(max(-1, (b - c) / n - reach), abs=1e-6)
    assert found.high == pytest.approx(min(1, (b - c) / n + reach), abs=1e-6)


@pytest.mark.parametrize("differing", [0, 1, 2, 7])
def test_draws_that_repeat_the_first_do_not_narrow_the_interval_of_a_difference(differing):
    theirs = np.random.default_rng(3).random((1, 20)) < 0.6
    ours = theirs ^ (np.arange(20) < differing)
    once = statistics.difference(ours, theirs)
    assert statistics.difference(ours.repeat(10, axis=0), theirs.repeat(10, axis=0)) == pytest.approx(once)
    assert once.high - once.low > 0.15


@pytest.mark.parametrize("draws", [1, 4])
def test_the_interval_of_a_difference_covers_the_truth(draws):
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        ease = generator.normal(size=150)
        ours, theirs = (ease + generator.normal(size=(draws, 150)) < 1.0 for _ in range(2))
        found = statistics.difference(ours, theirs)
        hits += found.low <= 0 <= found.high
    assert 0.92 < hits / 400 < 0.98


def test_the_area_is_that_of_trapezoids_over_the_range():
    levels = np.array([0.0, 1.0, 4.0])
    assert statistics.area(levels, np.array([1.0, 0.5, 0.1])) == pytest.approx((0.75 + 3 * 0.3) / 4)
    curves = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    assert statistics.area(levels, curves) == pytest.approx([1.0, 0.375])
    assert statistics.area(levels[:1], curves[:, :1]) == pytest.approx([1.0, 0.0])
