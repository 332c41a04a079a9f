"""The predictions of a model at one level, with one training seed or several."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from blrobust.analysis import statistics
from blrobust.analysis.statistics import RESAMPLES, Bools, Estimate, Floats

FEW_SEEDS = 10  # a report calls intervals over fewer seeds rough


class LevelOutcome:
    """Which predictions of a model at one level are correct, under each of its training seeds.

    The accuracy is the mean over the seeds. With one seed, estimates and tests are those of `statistics`,
    whose unit is the image. With several seeds, intervals are those of a bootstrap in two levels (the
    pigeonhole bootstrap of Owen 2007): it resamples the seeds of each model independently, and the images in
    common for all models. Resamples never leave the range of the seeds, so with few seeds such an interval is
    rough, and too narrow: the range of three seeds contains the median over all trainings in 75 % of all
    cases, that of two seeds in 50 %. The test (`statistics.welch`) allows for the number of seeds.
    """

    def __init__(self, correct: Sequence[Bools], resampled: Callable[[], Floats]) -> None:
        """Store whether predictions are correct, bool (draws, n) for each seed.

        `resampled` returns the accuracies (RESAMPLES,) of the resamples, the mean over the resampled seeds.
        """
        self.correct = list(correct)
        self._resampled = resampled

    @property
    def seeds(self) -> int:
        """The number of training seeds."""
        return len(self.correct)

    @property
    def pooled(self) -> Bools:
        """The predictions under all seeds, bool (seeds * draws, n)."""
        return self.correct[0] if self.seeds == 1 else np.concatenate(self.correct)

    @property
    def accuracy(self) -> Estimate:
        """The accuracy, with its 95 % interval: Wilson's for one seed."""
        if self.seeds == 1:
            return statistics.accuracy(self.correct[0])
        return statistics.interval(float(self.pooled.mean()), self._resampled())

    def difference(self, other: "LevelOutcome") -> Estimate:
        """Return this accuracy minus that of `other` on the same images, with its 95 % interval."""
        if self.seeds == other.seeds == 1:
            return statistics.difference(self.correct[0], other.correct[0])
        value = float(self.pooled.mean() - other.pooled.mean())
        return statistics.interval(value, self._resampled() - other._resampled())

    def p_value(self, other: "LevelOutcome") -> float:
        """Return the p-value of the hypothesis that two models have the same accuracy.

        The test is McNemar's for one seed and one draw, the sign-flip test over images for one seed and
        several draws, and Welch's over seeds and images for several seeds of any of the two models.
        """
        if not self.seeds == other.seeds == 1:
            return statistics.welch(self._scores(), other._scores())
        (ours,), (theirs,) = self.correct, other.correct
        if len(ours) == 1:
            return float(statistics.mcnemar(ours[0], theirs[0]))
        return statistics.sign_flip(ours.sum(axis=0) - theirs.sum(axis=0))

    def is_at_floor(self, chance: float) -> bool:
        """Return whether the predictions are no better than a guess, whose accuracy is `chance`.

        They are not if the accuracy is at most `chance`, or if its interval contains `chance` and ends below
        twice `chance`.
        """
        accuracy = self.accuracy
        return accuracy.value <= chance or (accuracy.low <= chance and accuracy.high <= 2 * chance)

    def _scores(self) -> Floats:
        """Return the accuracy of each image over its draws, (seeds, n)."""
        return np.stack([correct.mean(axis=0) for correct in self.correct])


def over_seeds(resampled: Sequence[Floats], *, key: str) -> Floats:
    """Return the mean over resampled seeds of `resampled`, one array (RESAMPLES, ...) for each seed.

    Resample r of the images is combined with resample r of the seeds, as many as there are, drawn with
    replacement. The draws depend only on `key`, the name of the model, and on the number of seeds.
    """
    count = len(resampled)
    if count == 1:
        return resampled[0]
    source = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16])
    picks = np.random.default_rng(source).integers(0, count, (RESAMPLES, count))
    stacked = np.stack(resampled)  # (seeds, RESAMPLES, ...)
    chosen: Floats = stacked[picks, np.arange(RESAMPLES)[:, None]]  # (RESAMPLES, seeds, ...)
    found: Floats = chosen.mean(axis=1)
    return found
