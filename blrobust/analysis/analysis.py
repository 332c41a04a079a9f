"""The results of one kind of noise or attack in a run: summary numbers and tests between models.

A model is a trained model, or several that differ only in the training seed (`analysis.groups`).
"""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from blrobust.analysis import comparison, statistics
from blrobust.analysis.comparison import Verdict, choose_baseline
from blrobust.analysis.flags import model_flags
from blrobust.analysis.groups import group_of, groups
from blrobust.analysis.level_outcome import LevelOutcome, over_seeds
from blrobust.analysis.statistics import Estimate, Floats
from blrobust.analysis.trained import Checks, Trained, frame
from blrobust.runs.record import Card
from blrobust.runs.run import Run

SUMMARY = (
    *("kind", "model", "nominal_compression", "effective_compression"),
    *("clean", "clean_low", "clean_high", "mean", "mean_low", "mean_high"),
    *("half_level", "half_level_low", "half_level_high", "better", "worse"),
)
# Further columns of a run that has a model of several seeds: their number, and standard deviations over them.
SPREAD = ("seeds", "clean_spread", "mean_spread", "half_level_spread")
PAIRED = ("kind", "model", "baseline", *comparison.COLUMNS)
ACROSS = ("kind", "level", "p", "p_holm")
ACCURACIES = ("model", "level", "accuracy", "ci_low", "ci_high")


class Analysis:
    """All results of one `kind` of noise or attack in a run, read from the run folder and computed once.

    `trained` has the results of each trained model, and the rules for unfinished runs. A model has results at
    a level if all its seeds have. A model that lacks a level has no summary numbers.
    """

    def __init__(
        self, run: Run, kind: str, *, baseline: str | None = None, most_draws: int | None = None
    ) -> None:
        """Prepare to read the results of `kind` when they are needed.

        `baseline` is the name of a model, or None for the default of `choose_baseline`. `most_draws` limits
        the number of draws that are used. Raises `UserError` for a name that is not a model of the run.
        """
        self.run = run
        self.kind = kind
        self.trained = Trained(run, kind, most_draws=most_draws)
        self.levels = self.trained.levels
        self.groups = groups(run.cards)
        self.baseline = choose_baseline(baseline and group_of(baseline, self.groups), self.models)
        self._comparisons: dict[tuple[str, str], pd.DataFrame] = {}

    @property
    def models(self) -> list[str]:
        """The names of the models, in the order of run.json."""
        return list(self.groups)

    @property
    def cards(self) -> dict[str, Card]:
        """The cards of the models (facts about them) by name; of several seeds, that of the first."""
        return {name: group.card for name, group in self.groups.items()}

    @property
    def has_seeds(self) -> bool:
        """Whether a model has several training seeds."""
        return any(len(group.members) > 1 for group in self.groups.values())

    @cached_property
    def chance(self) -> float:
        """Accuracy of a guess: 1 divided by the number of classes."""
        return 1 / len(self.run.record.dataset.classes)

    @property
    def draws(self) -> int:
        """The number of draws that are used."""
        return self.trained.draws

    @cached_property
    def outcomes(self) -> dict[str, dict[float, LevelOutcome]]:
        """The predictions of each model, by level with results."""
        found = {}
        for name, group in self.groups.items():
            by_seed = [self.trained.correct[label] for label in group.members]
            found[name] = {
                level: LevelOutcome(
                    [cells[level] for cells in by_seed], partial(self._resampled, name, level)
                )
                for level in self.levels
                if all(level in cells for cells in by_seed)
            }
        return found

    @cached_property
    def complete(self) -> list[str]:
        """The models that have results at all levels."""
        return [model for model, cells in self.outcomes.items() if len(cells) == len(self.levels)]

    @cached_property
    def checks(self) -> dict[tuple[str, float], Checks]:
        """The results of the checks of perturbed inputs, over all seeds, by (model, level)."""
        return {
            (model, level): Checks(
                sum((checks.statuses for checks in found), Counter()),
                sum(checks.adversarial for checks in found),
                sum(checks.survivors for checks in found),
            )
            for model, cells in self.outcomes.items()
            for level in cells
            for found in [[self.trained.checks[label, level] for label in self.groups[model].members]]
        }

    @cached_property
    def flags(self) -> dict[str, list[str]]:
        """Reasons to doubt the results of each model, from the function `model_flags`."""
        found = {}
        for name, group in self.groups.items():
            wrong = sum(sum(self.trained.not_finite[label].values()) for label in group.members)
            found[name] = model_flags(self.run.record, *group.members, not_finite=wrong)
        return found

    @property
    def table(self) -> pd.DataFrame:
        """One row per trained model and level: the rows of results.csv."""
        return self.trained.table

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """One row per model and level: its accuracy and the ends of the 95 % interval."""
        return frame(
            [
                dict(zip(ACCURACIES, (model, level, *outcome.accuracy), strict=True))
                for model, cells in self.outcomes.items()
                for level, outcome in cells.items()
            ],
            ACCURACIES,
        )

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per model: the result of `summary_over` for all levels."""
        return self.summary_over(self.levels)

    def summary_over(self, levels: list[float]) -> pd.DataFrame:
        """Return a row per model: clean and mean accuracy, level at 50 %, comparison with the baseline.

        `levels` are some of the measured levels. `mean` is the area under the accuracy curve over `levels`,
        divided by their range (`statistics.area`). `half_level` is the level at which the curve falls to 50 %
        (`statistics.crossing_level`). `better` and `worse` are the shares of all measured levels at which the
        model is better and worse than the baseline (`comparison.compare`). Columns ending in `_low` and
        `_high` are the ends of 95 % intervals: for `clean` that of `LevelOutcome.accuracy`, for the others
        bootstrap intervals over images and seeds.

        If a model has several seeds, its curve is the mean over them. The table then also has the columns
        `SPREAD`: the number of seeds, and the standard deviations of the three numbers over the seeds.
        """
        grid = np.asarray(levels, dtype=np.float64)
        indices = [self.levels.index(level) for level in levels]
        records = []
        for model, cells in self.outcomes.items():
            card = self.cards[model]
            record: dict[str, Any] = {
                "kind": self.kind,
                "model": model,
                "nominal_compression": card.nominal_compression,
                "effective_compression": card.effective_compression,
                "seeds": len(self.groups[model].members),
            }
            if self.levels[0] in cells:
                first = cells[self.levels[0]]
                record |= _columns("clean", first.accuracy)
                record["clean_spread"] = _spread([float(correct.mean()) for correct in first.correct])
            if model in self._curves:
                curve, curves = (part[..., indices] for part in self._curves[model])
                by_seed = [seed[indices] for seed in self._seed_curves(model)]
                for name, summarise in (("mean", statistics.area), ("half_level", statistics.crossing_level)):
                    value = float(summarise(grid, curve))
                    record |= _columns(name, statistics.interval(value, summarise(grid, curves)))
                    record[f"{name}_spread"] = _spread([float(summarise(grid, seed)) for seed in by_seed])
            tests = self.paired[self.paired.model == model]
            if len(tests) == len(self.levels):
                record["better"] = float((tests.verdict == Verdict.BETTER).mean())
                record["worse"] = float((tests.verdict == Verdict.WORSE).mean())
            records.append(record)
        return frame(records, (*SUMMARY, *(SPREAD if self.has_seeds else ())))

    def mean_difference(self, model: str, other: str) -> Estimate:
        """Return the mean accuracy of `model` minus that of `other`, with its bootstrap interval.

        Both models must have results at all levels.
        """
        grid = np.asarray(self.levels, dtype=np.float64)
        (ours, our_resamples), (theirs, their_resamples) = self._curves[model], self._curves[other]
        resampled = statistics.area(grid, our_resamples - their_resamples)
        return statistics.interval(float(statistics.area(grid, ours - theirs)), resampled)

    def compare(self, model: str, other: str) -> pd.DataFrame:
        """Return the comparison of two models at each level (`comparison.compare`), computed once."""
        if (model, other) not in self._comparisons:
            cells, others = self.outcomes[model], self.outcomes[other]
            self._comparisons[model, other] = comparison.compare(cells, others, chance=self.chance)
        return self._comparisons[model, other]

    @cached_property
    def best(self) -> dict[float, str | None]:
        """By level, the model that is better than all other complete models, or None if there is none.

        The dictionary is empty if fewer than two models are complete.
        """
        return {level: self._best(level) for level in self.levels} if len(self.complete) > 1 else {}

    @cached_property
    def paired(self) -> pd.DataFrame:
        """The comparisons of each model with the baseline (`comparison.compare`), as one table."""
        frames = [
            self.compare(model, self.baseline).assign(kind=self.kind, model=model, baseline=self.baseline)
            for model in self.models
            if model != self.baseline
        ]
        return concatenate(frames, PAIRED)

    @cached_property
    def across_models(self) -> pd.DataFrame:
        """The p-values of Cochran's Q test over all models, one row per level, adjusted by `adjust`.

        The test takes one prediction per image and model: that of the first draw. The table is empty for
        fewer than three models, and if a model has several seeds.
        """
        cells = list(self.outcomes.values())
        shared = [level for level in self.levels if all(level in by_level for by_level in cells)]
        if len(cells) <= 2 or not shared or self.has_seeds:
            return frame([], ACROSS)
        first = [np.stack([by_level[level].pooled[0] for by_level in cells]) for level in shared]
        p = np.array([statistics.cochrans_q(correct) for correct in first])
        p_holm = comparison.adjust(p, shared)
        return pd.DataFrame({"kind": self.kind, "level": shared, "p": p, "p_holm": p_holm})

    @cached_property
    def _curves(self) -> dict[str, tuple[Floats, Floats]]:
        """Accuracies (levels,) and their bootstrap resamples (RESAMPLES, levels) of each complete model.

        All models share the resamples of the images.
        """
        return {
            model: (
                np.mean(self._seed_curves(model), axis=0),
                np.stack([self._resampled(model, level) for level in self.levels], axis=1),
            )
            for model in self.complete
        }

    def _seed_curves(self, model: str) -> list[Floats]:
        """Return the accuracies (levels,) of a complete model under each of its seeds."""
        counts = [self.trained.correct[label].values() for label in self.groups[model].members]
        return [np.stack([c.sum(axis=0) for c in cells]).mean(axis=1) / self.draws for cells in counts]

    def _resampled(self, model: str, level: float) -> Floats:
        """Return the accuracies (RESAMPLES,) of a model in the resamples of the images and of its seeds."""
        group = self.groups[model]
        return over_seeds([self.trained.resampled[m, level] for m in group.members], key=group.key)

    def _best(self, level: float) -> str | None:
        accuracy = {model: float(self.outcomes[model][level].pooled.mean()) for model in self.complete}
        first, *others = sorted(accuracy, key=lambda model: -accuracy[model])
        row = self.levels.index(level)
        beats_all = all(self.compare(first, m).verdict.iloc[row] == Verdict.BETTER for m in others)
        return first if beats_all else None


def concatenate(frames: Iterable[pd.DataFrame], columns: Iterable[str]) -> pd.DataFrame:
    """Return the rows of all frames in one frame, which has the given `columns` even without any rows."""
    filled = [part for part in frames if len(part)]
    whole = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return whole.reindex(columns=list(columns))


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _spread(values: list[float]) -> float:
    """Return the standard deviation over the seeds; NaN for one seed, or if a value is infinite."""
    return float(np.std(values, ddof=1)) if len(values) > 1 and np.isfinite(values).all() else np.nan
