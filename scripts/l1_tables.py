"""The table of docs/attacks.md with the attacks in L1, from docs/results/l1-attacks.csv."""

from pathlib import Path

import pandas as pd
from markdown_tables import percent, table

RESULTS = Path(__file__).parents[1] / "docs" / "results"
MODELS = ["fp32", "fft85"]
LEVELS = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0]


def accuracy() -> list[str]:
    """Return the table of the accuracies of `MODELS`, a row per attack and a column per strength."""
    frame = pd.read_csv(RESULTS / "l1-attacks.csv")
    rows = []
    for kind, cells in frame.groupby("kind", sort=False):
        right = {(row.model, row.level): row.accuracy for row in cells.itertuples()}
        shown = [" / ".join(percent(right[model, level]) for model in MODELS) for level in LEVELS]
        rows.append([f"`{kind}`", *shown])
    return table(["attack", *(f"{level:g}" for level in LEVELS)], rows)
