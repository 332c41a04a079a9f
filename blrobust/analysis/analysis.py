"""The results of one kind of perturbation in a run: tables, summary numbers and tests between models."""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from blrobust.analysis import statistics
from blrobust.analysis.flags import model_flags
from blrobust.analysis.statistics import Bools, Estimate
from blrobust.attacks.status import Status
from blrobust.runs.run import Run

BASELINE = "fp32"

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
PAIRED = ("kind", "model", "baseline", "level", "draws", "difference", "p", "p_holm")
ACROSS = ("kind", "level", "p", "p_holm")
REJECTED = ("NOT_FINITE", "OUT_OF_BOUNDS", "BEYOND_EPSILON", "RAISED")  # failed checks: robust


class Checks(NamedTuple):
    """Checks of the inputs of one model and level, counted over samples and draws; all 0 for noise."""

    statuses: Counter[str]  # names of `blrobust.attacks.status.Status`
    adversarial: int
    survivors: int  # adversarial inputs that stay so when rounded to 8 bits

    @property
    def rejected(self) -> int:
        """Number of inputs that failed a check, or for which the attack raised an error."""
        return sum(self.statuses[name] for name in REJECTED)


class Analysis:
    """All results of one `kind` in a run, read from the run folder and computed once.

    Of an unfinished run the draws that every cell has are used, at least the first, and levels
    without results are left out; a model without all its levels has no summary numbers.
    """

    def __init__(self, run: Run, kind: str) -> None:
        self.run = run
        self.kind = kind
        self.levels = run.levels(kind)

    @cached_property
    def baseline(self) -> str:
        """The model that the others are tested against: `fp32`, else the first."""
        return BASELINE if BASELINE in self.run.models else self.run.models[0]

    @cached_property
    def draws(self) -> int:
        """Draws that every cell of the run has; 1 where not even the first is complete."""
        counts = Counter(draw for _, _, _, draw in self.run.done())
        return max(1, sum(count * self.run.draws == self.run.cells for count in counts.values()))

    @cached_property
    def outcomes(self) -> dict[str, dict[float, Bools]]:
        """Correctness (draws, n) by model and level, for the levels that have results."""
        found = {}
        for model in self.run.models:
            cells = {level: self.run.correct(model, self.kind, level)[: self.draws] for level in self.levels}
            found[model] = {level: correct for level, correct in cells.items() if len(correct)}
        return found

    @cached_property
    def complete(self) -> list[str]:
        """The models that have all their levels."""
        return [model for model, cells in self.outcomes.items() if len(cells) == len(self.levels)]

    @cached_property
    def checks(self) -> dict[tuple[str, float], Checks]:
        """Checks by model and level."""
        return {
            (model, level): self._checks(model, level)
            for model, cells in self.outcomes.items()
            for level in cells
        }

    @cached_property
    def not_finite(self) -> dict[str, dict[float, int]]:
        """Answers that are not finite by model and level, over samples and draws; they count as wrong."""
        return {
            model: {
                level: int(self.run.not_finite(model, self.kind, level)[: self.draws].sum())
                for level in cells
            }
            for model, cells in self.outcomes.items()
        }

    @cached_property
    def flags(self) -> dict[str, list[str]]:
        """Doubts about the answers of each model, with the number of those that are not finite."""
        return {
            model: model_flags(self.run.provenance, model, not_finite=sum(levels.values()))
            for model, levels in self.not_finite.items()
        }

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per model and level, as docs/results.md documents; shares are fractions."""
        run, records = self.run, []
        for model, cells in self.outcomes.items():
            card = run.cards[model]
            for level, correct in cells.items():
                accuracy, checks = statistics.accuracy(correct), self.checks[model, level]
                survivors = checks.survivors / checks.adversarial if checks.adversarial else np.nan
                records.append(
                    {
                        "model": model,
                        "dataset": run.provenance["dataset"]["name"],
                        "kind": self.kind,
                        "space": run.config["space"],
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
                        "nominal_compression": card["nominal_compression"],
                        "effective_compression": card["effective_compression"],
                        "forwards": run.forwards(model, self.kind, level),
                        "backwards": run.backwards(model, self.kind, level),
                        "seconds": run.seconds(model, self.kind, level),
                        "not_finite": self.not_finite[model][level],
                    }
                )
        return _frame(records, TABLE)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per model: clean and mean accuracy, level at 50 %, shares of levels above the baseline.

        `half_level` is `inf` where accuracy never falls to 50 %. `better` and `worse` are the shares
        of levels at which the model differs significantly from `fp32` (Holm over levels). Columns
        ending in `_low` and `_high` are ends of 95 % intervals: Wilson for one level, else bootstrap.
        """
        levels = np.asarray(self.levels, dtype=np.float64)
        # Correct draws (levels, n); all models share the resamples of the images.
        right = {m: np.stack([c.sum(axis=0) for c in self.outcomes[m].values()]) for m in self.complete}
        resampled = {}
        if right:
            means = statistics.resampled_means(np.concatenate(list(right.values())))
            resampled = dict(zip(right, np.split(means, len(right), axis=1), strict=True))
        records = []
        for model, cells in self.outcomes.items():
            card = self.run.cards[model]
            record: dict[str, Any] = {
                "kind": self.kind,
                "model": model,
                "nominal_compression": card["nominal_compression"],
                "effective_compression": card["effective_compression"],
            }
            if self.levels[0] in cells:
                record |= _columns("clean", statistics.accuracy(cells[self.levels[0]]))
            if model in right:
                curve = right[model].mean(axis=1) / self.draws  # (levels,)
                curves = resampled[model] / self.draws  # (RESAMPLES, levels)
                mean = statistics.interval(float(curve.mean()), curves.mean(axis=1))
                half = statistics.interval(
                    float(statistics.crossing_level(levels, curve)),
                    statistics.crossing_level(levels, curves),
                )
                record |= _columns("mean", mean) | _columns("half_level", half)
            tests = self.paired[self.paired.model == model]
            if len(tests) == len(levels) and self.baseline == BASELINE:
                significant = tests.p_holm < statistics.SIGNIFICANCE
                record["better"] = float((significant & (tests.difference > 0)).mean())
                record["worse"] = float((significant & (tests.difference < 0)).mean())
            records.append(record)
        return _frame(records, SUMMARY)

    @cached_property
    def paired(self) -> pd.DataFrame:
        """Tests of each model against the baseline on the same images, level by level.

        McNemar's test for one draw, the sign-flip test over images for several; `p_holm` is adjusted
        over the levels of one pair of models.
        """
        theirs, frames = self.outcomes[self.baseline], []
        for model, ours in self.outcomes.items():
            shared = [level for level in ours if level in theirs and model != self.baseline]
            if shared:
                frame = pd.DataFrame.from_records([_compare(ours[x], theirs[x]) for x in shared])
                frame["p_holm"] = statistics.holm(frame.p.to_numpy())
                frames.append(frame.assign(kind=self.kind, model=model, baseline=self.baseline, level=shared))
        return concatenate(frames, PAIRED)

    @cached_property
    def across_models(self) -> pd.DataFrame:
        """Cochran's Q test per level over more than two models, Holm over the levels.

        The test takes one prediction per image and model: that of the first draw.
        """
        cells = list(self.outcomes.values())
        shared = [level for level in self.levels if all(level in by_level for by_level in cells)]
        if len(cells) <= 2 or not shared:
            return _frame([], ACROSS)
        first = [np.stack([by_level[level][0] for by_level in cells]) for level in shared]
        p = np.array([statistics.cochrans_q(correct) for correct in first])
        return pd.DataFrame({"kind": self.kind, "level": shared, "p": p, "p_holm": statistics.holm(p)})

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
    """Return the rows of all frames, with these columns also where there are none."""
    filled = [frame for frame in frames if len(frame)]
    whole = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return whole.reindex(columns=list(columns))


def _frame(records: list[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame.from_records(records).reindex(columns=list(columns))


def _compare(ours: Bools, theirs: Bools) -> dict[str, float]:
    """Return the difference in accuracy over outcomes (draws, n), and its p-value."""
    if len(ours) == 1:
        p = float(statistics.mcnemar(ours[0], theirs[0]))
    else:
        p = statistics.sign_flip(ours.sum(axis=0) - theirs.sum(axis=0))
    return {"draws": len(ours), "difference": float(ours.mean() - theirs.mean()), "p": p}


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
