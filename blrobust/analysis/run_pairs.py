"""Paired tests between the models of two runs on the same images."""

import pandas as pd

from blrobust.analysis import comparison
from blrobust.analysis.analysis import PAIRED, Analysis, concatenate
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.errors import UserError

SHOWN = 8  # digits of a checksum in an error message


def pairs(first: RunAnalysis, second: RunAnalysis) -> pd.DataFrame:
    """Return the comparison of each model of `second` with each model of `first`, by kind and level.

    The comparison covers the kinds and levels that both runs have. If one run has more draws, only the first
    draws, those that both runs have, are used. The column `baseline` is the model of `first`, and
    `difference` is the accuracy of the model of `second` minus that of the baseline. The other columns are
    those of `comparison.compare`. Raises `UserError` for runs on different images or in different input
    spaces.
    """
    data, other = first.run.record.dataset, second.run.record.dataset
    if data.checksum != other.checksum or first.run.sweep.space != second.run.sweep.space:
        got, legal = (
            f"{facts.n:,} images of {facts.name} (checksum {facts.checksum[:SHOWN]}), {run.sweep.space} space"
            for facts, run in ((other, second.run), (data, first.run))
        )
        raise UserError(f"{second.run.path}: got {got}; legal: those of {first.run.path}, {legal}")
    frames = []
    for kind in (kind for kind in first.kinds if kind in second.kinds):
        draws = min(second.kinds[kind].draws, first.kinds[kind].draws)
        ours, theirs = (Analysis(results.run, kind, most_draws=draws) for results in (second, first))
        for model, cells in ours.outcomes.items():
            for baseline, others in theirs.outcomes.items():
                found = comparison.compare(cells, others, chance=ours.chance)
                frames.append(found.assign(kind=kind, model=model, baseline=baseline))
    return concatenate(frames, PAIRED)
