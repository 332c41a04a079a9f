"""The results of one kind of noise or attack in a run: tables, summary numbers and tests between models."""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from blrobust.analysis import comparison, statistics
from blrobust.analysis.comparison import Verdict, choose_baseline
from blrobust.analysis.flags import model_flags
from blrobust.analysis.statistics import Bools, Estimate, Floats
from blrobust.attacks.status import REJECTED, Status
from blrobust.runs.run import Run

# results.csv, column by column; docs/results.md documents them.
TABLE = (
    *("model", "dataset", "kind", "space", "level", "draws", "n", "effective_n"),
    *("accuracy", "ci_low", "ci_high", "always_correct", "rejected", "survives_rounding"),
    *("nominal_compression", "effective_compression", "forwards", "backwards", "seconds", "not_finite"),
)
SUMMARY = (
    *("kind", "model", "nominal_compression", "effective_compression"),
    *("clean", "clean_low", "clean_high", "mean", "mean_low", "mean_high"),
    *("half_level", "half_level_low", "half_level_high", "better", "worse"),
)
PAIRED = ("kind", "model", "baseline", *comparison.COLUMNS)
ACROSS = ("kind", "level", "p", "p_holm")


class Checks(NamedTuple):
    """Numbers of perturbed inputs of one model and level, over images and draws, by the result of the check.

    All are 0 for noise.
    """

    statuses: Counter[str]  # names of `blrobust.attacks.status.Status`
    adversarial: int
    survivors: int  # adversarial inputs that stay so when rounded to 8 bits

    @property
    def rejected(self) -> int:
        """The number of inputs that failed a check, or for which the attack raised an error."""
        return sum(self.statuses[status.name] for status in REJECTED)


class Analysis:
    """All results of one `kind` of noise or attack in a run, read from the run folder and computed once.

    In an unfinished run, the number of finished draws (repetitions with other random numbers) may differ
    between models and levels. Only draws that are finished for every model and level are used, and always the
    first draw, even if it is unfinished. Levels without results are left out, and a model that lacks a level
    has no summary numbers.
    """

    def __init__(self, run: Run, kind: str, *, baseline: str | None = None) -> None:
        """Prepare to read the results of `kind` when they are needed.

        `baseline` is the name of a model, or None for the default of `choose_baseline`. Raises `UserError`
        for a name that is not a model of the run.
        """
        self.run = run
        self.kind = kind
        self.levels = run.levels(kind)
        self.baseline = choose_baseline(baseline, run.models)
        self._comparisons: dict[tuple[str, str], pd.DataFrame] = {}

    @cached_property
    def chance(self) -> float:
        """Accuracy of a guess: 1 divided by the number of classes."""
        return 1 / len(self.run.record.dataset.classes)

    @cached_property
    def draws(self) -> int:
        """The number of draws that are finished for every model, kind and level of the run; at least 1."""
        counts = Counter(draw for _, _, _, draw in self.run.done())
        return max(1, sum(count * self.run.draws == self.run.cells for count in counts.values()))

    @cached_property
    def outcomes(self) -> dict[str, dict[float, Bools]]:
        """Whether each prediction is correct, bool (draws, n), by model and by level with results."""
        found = {}
        for model in self.run.models:
            cells = {level: self.run.correct(model, self.kind, level)[: self.draws] for level in self.levels}
            found[model] = {level: correct for level, correct in cells.items() if len(correct)}
        return found

    @cached_property
    def complete(self) -> list[str]:
        """The models that have results at all levels."""
        return [model for model, cells in self.outcomes.items() if len(cells) == len(self.levels)]

    @cached_property
    def checks(self) -> dict[tuple[str, float], Checks]:
        """The results of the checks of perturbed inputs, by (model, level)."""
        return {
            (model, level): self._checks(model, level)
            for model, cells in self.outcomes.items()
            for level in cells
        }

    @cached_property
    def not_finite(self) -> dict[str, dict[float, int]]:
        """The number of predictions with logits that are not finite, by model and by level.

        Such predictions count as wrong.
        """
        return {
            model: {
                level: int(self.run.not_finite(model, self.kind, level)[: self.draws].sum())
                for level in cells
            }
            for model, cells in self.outcomes.items()
        }

    @cached_property
    def flags(self) -> dict[str, list[str]]:
        """Reasons to doubt the results, by model (`model_flags`)."""
        return {
            model: model_flags(self.run.record, model, not_finite=sum(levels.values()))
            for model, levels in self.not_finite.items()
        }

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per model and level, with the columns of docs/results.md; shares are fractions."""
        run, records = self.run, []
        for model, cells in self.outcomes.items():
            card = run.cards[model]
            for level, correct in cells.items():
                accuracy, checks = statistics.accuracy(correct), self.checks[model, level]
                survivors = checks.survivors / checks.adversarial if checks.adversarial else np.nan
                records.append(
                    {
                        "model": model,
                        "dataset": run.record.dataset.name,
                        "kind": self.kind,
                        "space": run.sweep.space,
                        "level": level,
                        "draws": len(correct),
                        "n": correct.shape[1],
                        "effective_n": statistics.effective_n(correct),
                        "accuracy": accuracy.value,
                        "ci_low": accuracy.low,
                        "ci_high": accuracy.high,
                        "always_correct": float(correct.all(axis=0).mean()),
                        "rejected": checks.rejected,
                        "survives_rounding": survivors,
                        "nominal_compression": card.nominal_compression,
                        "effective_compression": card.effective_compression,
                        "forwards": run.forwards(model, self.kind, level),
                        "backwards": run.backwards(model, self.kind, level),
                        "seconds": run.seconds(model, self.kind, level),
                        "not_finite": self.not_finite[model][level],
                    }
                )
        return _frame(records, TABLE)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per model: the result of `summary_over` for all levels."""
        return self.summary_over(self.levels)

    def summary_over(self, levels: list[float]) -> pd.DataFrame:
        """Return a row per model: clean and mean accuracy, level at 50 %, comparison with the baseline.

        `levels` are some of the measured levels. `mean` is the area under the accuracy curve over `levels`,
        divided by their range (`statistics.area`). `half_level` is the level at which the curve falls to 50 %
        (`statistics.crossing_level`). `better` and `worse` are the shares of all measured levels at which the
        model is better and worse than the baseline (`comparison.compare`). Columns whose names end in `_low`
        and `_high` have the ends of 95 % intervals: Wilson intervals for `clean`, bootstrap intervals for
        `mean` and `half_level`.
        """
        grid = np.asarray(levels, dtype=np.float64)
        indices = [self.levels.index(level) for level in levels]
        records = []
        for model, cells in self.outcomes.items():
            card = self.run.cards[model]
            record: dict[str, Any] = {
                "kind": self.kind,
                "model": model,
                "nominal_compression": card.nominal_compression,
                "effective_compression": card.effective_compression,
            }
            if self.levels[0] in cells:
                record |= _columns("clean", statistics.accuracy(cells[self.levels[0]]))
            if model in self._curves:
                curve, curves = (part[..., indices] for part in self._curves[model])
                for name, summarise in (("mean", statistics.area), ("half_level", statistics.crossing_level)):
                    value = float(summarise(grid, curve))
                    record |= _columns(name, statistics.interval(value, summarise(grid, curves)))
            tests = self.paired[self.paired.model == model]
            if len(tests) == len(self.levels):
                record["better"] = float((tests.verdict == Verdict.BETTER).mean())
                record["worse"] = float((tests.verdict == Verdict.WORSE).mean())
            records.append(record)
        return _frame(records, SUMMARY)

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
            for model in self.run.models
            if model != self.baseline
        ]
        return concatenate(frames, PAIRED)

    @cached_property
    def _curves(self) -> dict[str, tuple[Floats, Floats]]:
        """Accuracies (levels,) and their bootstrap resamples (RESAMPLES, levels) of each complete model.

        All models share the resamples of the images.
        """
        if not self.complete:
            return {}
        right = [np.stack([c.sum(axis=0) for c in self.outcomes[m].values()]) for m in self.complete]
        means = np.split(statistics.resampled_means(np.concatenate(right)), len(right), axis=1)
        return {
            model: (correct.mean(axis=1) / self.draws, mean / self.draws)
            for model, correct, mean in zip(self.complete, right, means, strict=True)
        }

    def _best(self, level: float) -> str | None:
        accuracy = {model: float(self.outcomes[model][level].mean()) for model in self.complete}
        first, *others = sorted(accuracy, key=lambda model: -accuracy[model])
        row = self.levels.index(level)
        beats_all = all(self.compare(first, m).verdict.iloc[row] == Verdict.BETTER for m in others)
        return first if beats_all else None

    @cached_property
    def across_models(self) -> pd.DataFrame:
        """The p-values of Cochran's Q test over all models, one row per level, adjusted by `adjust`.

        The test takes one prediction per image and model: that of the first draw. The table is empty for
        fewer than three models.
        """
        cells = list(self.outcomes.values())
        shared = [level for level in self.levels if all(level in by_level for by_level in cells)]
        if len(cells) <= 2 or not shared:
            return _frame([], ACROSS)
        first = [np.stack([by_level[level][0] for by_level in cells]) for level in shared]
        p = np.array([statistics.cochrans_q(correct) for correct in first])
        p_holm = comparison.adjust(p, shared)
        return pd.DataFrame({"kind": self.kind, "level": shared, "p": p, "p_holm": p_holm})

    def _checks(self, model: str, level: float) -> Checks:
        cells = [self.run.outcome(model, self.kind, level, 0)]
        if "reason" not in cells[0]:
            return Checks(Counter(), 0, 0)
        cells += [self.run.outcome(model, self.kind, level, draw) for draw in range(1, self.draws)]
        codes, counts = np.unique(np.concatenate([cell["reason"] for cell in cells]), return_counts=True)
        return Checks(
            Counter({Status(code).name: int(count) for code, count in zip(codes, counts, strict=True)}),
            adversarial=sum(int(cell["success"].sum()) for cell in cells),
            survivors=sum(int(cell["rounded"].sum()) for cell in cells),
        )


def concatenate(frames: Iterable[pd.DataFrame], columns: Iterable[str]) -> pd.DataFrame:
    """Return the rows of all frames in one frame, which has the given `columns` even without any rows."""
    filled = [frame for frame in frames if len(frame)]
    whole = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return whole.reindex(columns=list(columns))


def _frame(records: list[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame.from_records(records).reindex(columns=list(columns))


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
