"""The results of each trained model under one kind of noise or attack: the rows of results.csv."""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from blrobust.analysis import statistics
from blrobust.analysis.statistics import Bools, Floats
from blrobust.attacks.status import REJECTED, Status
from blrobust.runs.run import Run

# results.csv, column by column; docs/results.md documents them.
TABLE = (
    *("model", "dataset", "kind", "space", "level", "draws", "n", "effective_n"),
    *("accuracy", "ci_low", "ci_high", "always_correct", "rejected", "survives_rounding"),
    *("nominal_compression", "effective_compression", "forwards", "backwards", "seconds", "not_finite"),
)


class Checks(NamedTuple):
    """Counts of the inputs of one model and level, over samples and draws, by the result of their check.

    All counts are 0 for noise.
    """

    statuses: Counter[str]  # names of `blrobust.attacks.status.Status`
    adversarial: int
    survivors: int  # adversarial inputs that stay so when rounded to 8 bits

    @property
    def rejected(self) -> int:
        """The number of inputs that failed a check, or for which the attack raised an error."""
        return sum(self.statuses[status.name] for status in REJECTED)

    @property
    def survival(self) -> float:
        """The share of the adversarial inputs that survive rounding; NaN without adversarial inputs."""
        return self.survivors / self.adversarial if self.adversarial else np.nan


class Trained:
    """The results of each trained model of a run under one `kind` of noise or attack, by label.

    In an unfinished run, the number of finished draws (repetitions with other random numbers) may differ
    between models and levels. Only draws that are finished for every model and level are used; the first is
    used even if it is not. Levels without results are left out.
    """

    def __init__(self, run: Run, kind: str, *, most_draws: int | None = None) -> None:
        """Prepare to read the results of `kind`; `most_draws` limits the number of draws that are used."""
        self.run = run
        self.kind = kind
        self.levels = run.levels(kind)
        self._most_draws = most_draws

    @cached_property
    def draws(self) -> int:
        """The number of draws that are finished for every model, kind and level of the run; at least 1."""
        counts = Counter(draw for _, _, _, draw in self.run.done())
        finished = max(1, sum(count * self.run.draws == self.run.cells for count in counts.values()))
        return finished if self._most_draws is None else min(finished, self._most_draws)

    @cached_property
    def correct(self) -> dict[str, dict[float, Bools]]:
        """Whether each prediction is correct, bool (draws, n), by model and by level with results."""
        found = {}
        for model in self.run.models:
            cells = {level: self.run.correct(model, self.kind, level)[: self.draws] for level in self.levels}
            found[model] = {level: correct for level, correct in cells.items() if len(correct)}
        return found

    @cached_property
    def resampled(self) -> dict[tuple[str, float], Floats]:
        """Accuracies (RESAMPLES,) in resamples of the images, by (model, level).

        All models and levels share the resamples.
        """
        right = {
            (model, level): correct.sum(axis=0)
            for model, cells in self.correct.items()
            for level, correct in cells.items()
        }
        if not right:
            return {}
        means = statistics.resampled_means(np.stack(list(right.values()))) / self.draws
        return dict(zip(right, means.T, strict=True))

    @cached_property
    def checks(self) -> dict[tuple[str, float], Checks]:
        """The results of the checks of perturbed inputs, by (model, level)."""
        return {
            (model, level): self._checks(model, level)
            for model, cells in self.correct.items()
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
            for model, cells in self.correct.items()
        }

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per model and level, with the columns of docs/results.md; shares are fractions."""
        run, records = self.run, []
        for model, cells in self.correct.items():
            card = run.cards[model]
            for level, correct in cells.items():
                accuracy, checks = statistics.accuracy(correct), self.checks[model, level]
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
                        "survives_rounding": checks.survival,
                        "nominal_compression": card.nominal_compression,
                        "effective_compression": card.effective_compression,
                        "forwards": run.forwards(model, self.kind, level),
                        "backwards": run.backwards(model, self.kind, level),
                        "seconds": run.seconds(model, self.kind, level),
                        "not_finite": self.not_finite[model][level],
                    }
                )
        return frame(records, TABLE)

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


def frame(records: list[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """Return the records as rows of a frame that has the given `columns` even without any rows."""
    return pd.DataFrame.from_records(records).reindex(columns=list(columns))
