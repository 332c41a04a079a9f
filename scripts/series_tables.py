"""The table of docs/attacks.md beside the published series, from docs/results/published-series.csv."""

import math
from pathlib import Path

import pandas as pd
from markdown_tables import percent, table

from blrobust.reports import paper_curves

RESULTS = Path(__file__).parents[1] / "docs" / "results"
MODELS = ["fp32", "fft85"]


def published() -> list[str]:
    """Return the table of our accuracies beside the published ones, a row per attack and strength.

    Raises `ValueError` if a strength was not published.
    """
    frame = pd.read_csv(RESULTS / "published-series.csv")
    frame = frame[frame.level > 0]
    rows = []
    for (kind, level), cell in frame.groupby(["kind", "level"], sort=False):
        ours = dict(zip(cell.model, cell.accuracy, strict=True))
        theirs = {
            series.model: dict(zip(series.levels, series.accuracy, strict=True))
            for series in paper_curves.series(
                kind=str(kind), space="legacy", datasets=[cell.dataset.iloc[0]],
                n=int(cell.n.iloc[0]), models=MODELS, last=math.inf,
            )
        }  # fmt: skip
        nearest = {model: min(curve, key=lambda x: abs(x - level)) for model, curve in theirs.items()}
        if not all(math.isclose(x, level, rel_tol=1e-3) for x in nearest.values()):
            raise ValueError(f"{kind} at {level}: published at {nearest}")
        here = " / ".join(percent(ours[model]) for model in MODELS)
        there = " / ".join(percent(theirs[model][nearest[model]]) for model in MODELS)
        rows.append([f"`{kind}`", f"{level:.3g}", here, there])
    return table(["attack", "strength", "here", "published"], rows)
