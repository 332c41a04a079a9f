"""Training curves: the history of a training as numbers."""

from pathlib import Path

import pandas as pd

from blrobust.errors import UserError
from blrobust.training import history


def read(path: Path) -> pd.DataFrame:
    """Return the history of a training, a row for each epoch and a column for each of `history.COLUMNS`.

    `path` is the file NAME.history.csv beside a checkpoint. Accuracies are shares; one that was not measured
    is NaN. `train_accuracy` is that of the augmented images while the weights changed, `holdout_accuracy` and
    `test_accuracy` are measured after the epoch. Raises `UserError` for a file that is not a history.
    """
    rows = history.read(path)
    try:
        numbers = {column: [float(row[column] or "nan") for row in rows] for column in history.COLUMNS[1:]}
        epochs = [int(row["epoch"]) for row in rows]
    except ValueError as error:
        raise UserError(f"{path} cannot be read as a history: {error}") from None
    return pd.DataFrame({"epoch": epochs, **numbers})
