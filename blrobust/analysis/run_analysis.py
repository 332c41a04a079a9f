"""The results of a run: those of each kind of noise or attack, and those of all attacks together."""

from functools import cached_property

import pandas as pd

from blrobust.analysis import attack_results
from blrobust.analysis.analysis import SPREAD, SUMMARY, Analysis, concatenate
from blrobust.analysis.comparison import choose_baseline
from blrobust.analysis.groups import group_of, groups
from blrobust.analysis.trained import TABLE
from blrobust.runs.run import Run


class RunAnalysis:
    """All results of a run, read from its folder and computed once."""

    def __init__(self, run: Run, *, baseline: str | None = None) -> None:
        """Prepare to read the results when they are needed.

        `baseline` is the name of a model, or None for the default of `choose_baseline`; the label of one of
        its seeds stands for the model. Raises `UserError` for a name that is not a model of the run.
        """
        self.run = run
        self.groups = groups(run.cards)
        self.baseline = choose_baseline(baseline and group_of(baseline, self.groups), list(self.groups))

    @cached_property
    def kinds(self) -> dict[str, Analysis]:
        """The results of each kind of noise or attack that has results; all kinds if none has results yet."""
        measured = {kind for _, kind, _, _ in self.run.done()}
        kinds = [kind for kind in self.run.kinds if kind in measured] or self.run.kinds
        return {kind: Analysis(self.run, kind, baseline=self.baseline) for kind in kinds}

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per kind, trained model and level: the content of results.csv."""
        return concatenate((analysis.table for analysis in self.kinds.values()), TABLE)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per kind and model: the rows of `Analysis.summary` of all kinds."""
        has_seeds = any(analysis.has_seeds for analysis in self.kinds.values())
        columns = (*SUMMARY, *(SPREAD if has_seeds else ()))
        return concatenate((analysis.summary for analysis in self.kinds.values()), columns)

    @cached_property
    def flags(self) -> dict[str, list[str]]:
        """Reasons to doubt each model's accuracy under attack that follow from several attacks together."""
        return attack_results.flags(self.run, self.groups, self.kinds)

    @cached_property
    def attacks(self) -> pd.DataFrame:
        """One row per attack and model, computed by `attack_results.by_model`."""
        return attack_results.by_model(self.kinds, self.flags)

    @cached_property
    def worst_case(self) -> pd.DataFrame:
        """The worst-case accuracy over several attacks, computed by `attack_results.worst_case`."""
        return attack_results.worst_case(self.kinds)

    def write_csv(self) -> None:
        """Write results.csv in the run folder, completely or not at all."""
        self.run.write_results(self.table)
