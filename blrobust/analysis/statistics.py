"""Intervals and tests for accuracy under noise and attack. The unit is the image, never the draw.

A draw is a repetition with other random numbers. `correct`, bool (draws, n), is true where image i is
classified correctly in draw d. Draws of one image are not independent. So 20 images with 25 draws are not 500
independent trials: a 95 % interval for 500 trials would contain the true accuracy only 38 % of the time.
"""

import importlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
SIGNIFICANCE = 1 - CONFIDENCE
RESAMPLES = 2000  # of the bootstrap: the ends of an interval vary by about 0.03 of its width
SAME = 1e-9  # accuracies that differ by less are equal but for rounding
CHUNK = 100  # resamples at a time: 8 MB of counts for 10,000 images

# Imported by the functions that use them, because together they take a second.
LIBRARIES = (
    *("scipy.signal", "scipy.stats", "statsmodels.stats.contingency_tables"),
    "statsmodels.stats.proportion",
)

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def import_libraries() -> None:
    """Import SciPy and statsmodels. Call this before a measurement: in a broken environment it fails."""
    for name in LIBRARIES:
        importlib.import_module(name)


def effective_n(correct: Bools) -> float:
    """Return the number of independent trials with the same information as `correct`, bool (draws, n).

    For one draw, for one image, and if the accuracy p is 0 or 1, the number is n. Otherwise it is
    min(n * draws, p * (1 - p) / var), where var = sum_i (m_i - p)^2 / (n * (n - 1)), and m_i is the share of
    draws in which image i is classified correctly.
    """
    draws, n = correct.shape
    means = correct.mean(axis=0)  # (n,)
    p = float(correct.mean())
    if draws == 1 or n == 1 or p in (0.0, 1.0):
        return float(n)
    variance = float(((means - p) ** 2).sum()) / (n * (n - 1))
    trials = float(n * draws)
    return trials if variance * trials <= p * (1 - p) else p * (1 - p) / variance


def wilson(share: float, n: float) -> Estimate:
    """Return a share of `n` trials with its Wilson score interval; `n` need not be an integer."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * n, n, alpha=SIGNIFICANCE, method="wilson")
    return Estimate(share, max(0.0, float(low)), min(1.0, float(high)))


def accuracy(correct: Bools) -> Estimate:
    """Return the accuracy of `correct`, bool (draws, n), with Wilson's interval for `effective_n` trials."""
    return wilson(float(correct.mean()), effective_n(correct))


def difference(ours: Bools, theirs: Bools) -> Estimate:
    """Return the accuracy of `ours` minus that of `theirs`, bool (draws, n) for the same images.

    The interval is that of Agresti and Min 2005: Wald's interval for matched pairs after half an image is
    added to each cell of the 2 x 2 table (right or wrong under each model). With several draws, the
    difference of an image is its share of correct draws under one model minus that under the other. The
    added images that differ then get the root mean square of all differences other than 0, or 1 if there are
    none. So draws that all repeat the first draw leave the interval unchanged.
    """
    from scipy.stats import norm

    pairs = ours.mean(axis=0) - theirs.mean(axis=0)  # (n,)
    n = len(pairs) + 2
    centre = float(pairs.sum()) / n
    squares = pairs[pairs != 0] ** 2
    variance = (float(squares.sum()) + (float(squares.mean()) if len(squares) else 1.0)) / n - centre**2
    reach = float(norm.ppf(1 - SIGNIFICANCE / 2)) * (variance / n) ** 0.5
    return Estimate(float(ours.mean() - theirs.mean()), max(-1.0, centre - reach), min(1.0, centre + reach))


def difference_of_samples(ours: Estimate, theirs: Estimate) -> Estimate:
    """Return `ours` minus `theirs`, two estimates from different samples, with its 95 % interval.

    The reach to each side is the root of the sum of the squared reaches of the two intervals (Newcombe 1998,
    method 10; Donner and Zou 2012 for intervals of any kind).
    """
    value = ours.value - theirs.value
    low = np.hypot(ours.value - ours.low, theirs.high - theirs.value)
    high = np.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Estimate(value, float(value - low), float(value + high))


def area(levels: Floats, curves: Floats) -> Floats:
    """Return the area under curves (..., levels), by trapezoids, divided by the range of the levels.

    For a single level the result is the value at this level.
    """
    if len(levels) == 1:
        return curves[..., 0]
    found: Floats = np.trapezoid(curves, levels, axis=-1) / (levels[-1] - levels[0])
    return found


def crossing_level(levels: Floats, curves: Floats, *, threshold: float = 0.5) -> Floats:
    """Return the first level at which curves (..., levels) fall to the threshold, linearly interpolated.

    The result is `inf` for a curve that stays above the threshold, and the first level for a curve that
    starts below.
    """
    below = curves <= threshold
    after = below.argmax(axis=-1)
    before = np.maximum(after - 1, 0)
    high = np.take_along_axis(curves, before[..., None], axis=-1)[..., 0]
    low = np.take_along_axis(curves, after[..., None], axis=-1)[..., 0]
    drop = np.where(high > low, high - low, 1.0)  # after == before: no drop
    part = np.where(after > before, (high - threshold) / drop, 0.0)
    crossing = levels[before] + part * (levels[after] - levels[before])
    return np.where(below.any(axis=-1), crossing, np.inf)


def resampled_means(right: NDArray[np.integer], *, seed: int = 0) -> Floats:
    """Return the means (RESAMPLES, rows) of `right` over resampled images, for the bootstrap.

    `right`, integers (rows, n), has the number of correct draws of each of n images; a row is one level of
    one model. All rows use the same resamples of the images, so they stay paired. Sums of integers are exact
    in float64, so the bits of the result depend only on the seed, not on the BLAS library.
    """
    rows, n = right.shape
    columns = np.ascontiguousarray(right.T, dtype=np.float64)  # (n, rows)
    generator = np.random.default_rng(seed)
    means = np.empty((RESAMPLES, rows))
    for start in range(0, RESAMPLES, CHUNK):
        picks = generator.integers(0, n, (CHUNK, n)) + np.arange(CHUNK)[:, None] * n
        counts = np.bincount(picks.ravel(), minlength=CHUNK * n).reshape(CHUNK, n)
        means[start : start + CHUNK] = counts.astype(np.float64) @ columns / n
    return means


def interval(value: float, resampled: Floats) -> Estimate:
    """Return `value` with the percentile interval of bootstrap values (RESAMPLES,), which may include inf."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf")
    return Estimate(value, float(low), float(high))


def welch(ours: Floats, theirs: Floats) -> float:
    """Return the two-sided p-value of the hypothesis that two models have the same mean, over all trainings.

    `ours` (seeds, n) and `theirs` (other seeds, n) are the scores of the same n images, such as their
    accuracy over the draws, under each training seed of the two models. The variance of the difference of the
    means is the sum of three parts: that of each model's means over the seeds, divided by their number, and
    that of the images' differences, each a mean over the seeds, divided by n. Welch's t-test has the degrees
    of freedom of Satterthwaite 1946, so few seeds need a clear difference. The part of a seed that differs
    from image to image is in two of the parts, so the test is conservative. A model of one seed adds no
    variance of seeds, so the result holds for its only training. The result is 1 for a single image.
    """
    from scipy.stats import t

    if ours.shape[1] == 1:
        return 1.0
    images = ours.mean(axis=0) - theirs.mean(axis=0)  # (n,)
    samples = [scores.mean(axis=1) for scores in (ours, theirs)] + [images]
    parts = [
        (float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in samples if len(sample) > 1
    ]
    difference, variance = float(images.mean()), sum(part for part, _ in parts)
    if variance < SAME**2:
        return float(abs(difference) < SAME)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return min(1.0, 2 * float(t.sf(abs(difference) / variance**0.5, freedom)))


def mcnemar(first: Bools, second: Bools) -> Floats:
    """Return exact two-sided McNemar p-values, of shape (...), for two models on the same images.

    `first` and `second`, bool (..., n), state for each of n images whether the model classifies it correctly.
    Let b be the number of images that only the first model classifies correctly, and c that of images that
    only the second one does. Then p = min(1, 2 * P(B <= min(b, c))), where B is binomial (b + c, 1/2).
    """
    from scipy.stats import binom

    only_first = (first & ~second).sum(axis=-1)
    only_second = (second & ~first).sum(axis=-1)
    tail = binom.cdf(np.minimum(only_first, only_second), only_first + only_second, 0.5)
    p: Floats = np.minimum(1.0, 2.0 * tail)
    return p


def sign_flip(differences: NDArray[np.integer]) -> float:
    """Return the exact two-sided p-value of the hypothesis that `differences`, integers (n,), have mean 0.

    A difference is the number of correct draws of an image under one model minus that under another. Under
    the null hypothesis the two models can be swapped for any image, which flips the sign of its difference.
    So `p = P(|T*| >= |T|)`, where T is the sum of the differences and T* the sum with random signs. The
    distribution of T* is computed exactly, as a convolution of scaled binomials: one for the images with a
    difference of 1 or -1, one for those with 2 or -2, and so on. For one draw this is McNemar's test. SciPy
    computes long convolutions by an FFT, with an error of about 1e-15 in p, so smaller values of p are
    inaccurate and may be 0.
    """
    from scipy.signal import convolve
    from scipy.stats import binom

    sizes = np.bincount(np.abs(differences))  # sizes[k]: images that differ by k draws
    distribution = np.ones(1)  # of the sum of the positive terms
    for k, size in enumerate(sizes[1:], start=1):
        term = np.zeros(k * size + 1)
        term[::k] = binom.pmf(np.arange(size + 1), size, 0.5)
        distribution = convolve(distribution, term)
    total = len(distribution) - 1
    sums = 2 * np.arange(total + 1) - total
    p = float(distribution[np.abs(sums) >= abs(int(differences.sum()))].sum())
    return min(1.0, max(0.0, p))  # the FFT's error may be negative


def cochrans_q(correct: Bools) -> float:
    """Return the p-value of Cochran's Q test for equal accuracy of all models.

    `correct`, bool (models, n), states for each model and image whether the prediction is correct.
    """
    from statsmodels.stats.contingency_tables import cochrans_q as test

    if (correct == correct[0]).all():
        return 1.0
    return float(test(correct.T.astype(np.int64)).pvalue)


def holm(p_values: Floats) -> Floats:
    """Return p-values adjusted by Holm's step-down method for one family of tests.

    This function replaces `multipletests` of statsmodels, which runs Python's garbage collection in every
    call and so takes 50 ms.
    """
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted
