"""The outcomes of a run image by image, as one table."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blrobust.analysis.level_norm import level_norm
from blrobust.perturbations.levels import MOST_DIGITS, format_level
from blrobust.runs.packed_arrays import Outcomes
from blrobust.runs.run import Run

# column -> (the array of a cell with its values, their type in the table)
STORED = {
    "prediction": ("prediction", "int16"),
    "success": ("success", "boolean"),
    "distance": ("distance", "float32"),
    "queries": ("forwards", "Int32"),
    "probability_label": ("probability_label", "float32"),
    "probability_prediction": ("probability_prediction", "float32"),
    "margin": ("margin", "float32"),
}
COLUMNS = (
    *("kind", "model", "level", "level_label", "draw", "image", "label", "prediction", "correct"),
    *("success", "distance", "queries", "probability_label", "probability_prediction", "margin"),
)
LEVEL_LABEL = "level_label"
CATEGORIES = ("kind", "model", LEVEL_LABEL)


def per_image(run: Run) -> pd.DataFrame:
    """Return a row per kind, model, level, draw and image of a run of noise or attacks.

    - `kind`, `model` and `level_label`, categories: the perturbation, the label of the model, and the level
      in words, such as "2/255"; `level`, float64, is the number.
    - `draw`, int16: the index of the repetition, each with other random numbers; `image`, int32: the index of
      the image in the data set.
    - `label` and `prediction`, int16: the true and the predicted class, -1 for logits that are not finite.
    - `correct`, bool.
    - For attacks only: `success`, whether the attack broke the image; `distance`, float32, from the clean to
      the evaluated input in the norm of the attack; and `queries`, the forward passes for this image. Images
      are attacked in blocks (batches); the passes of a block are divided evenly among its attacked images.
    - `probability_label` and `probability_prediction`: softmax probabilities of the label and the prediction,
      stored as float16.
    - `margin`, float32: the logit of the label minus the largest other logit.

    Missing values are the columns of attacks in runs of noise, and probabilities and margins in runs of
    earlier formats. Raises `UserError` for a run of another command.
    """
    n, cells = len(run.labels), list(_cells(run))
    labels = [level_label(run, kind, level) for kind, _, level, *_ in cells]
    arrays = [_arrays(outcomes, run.labels) for *_, outcomes in cells]
    whole: dict[str, Any] = {
        "kind": _category([kind for kind, *_ in cells], n),
        "model": _category([model for _, model, *_ in cells], n),
        "level": np.repeat(np.array([level for _, _, level, *_ in cells], np.float64), n),
        "level_label": _category(labels, n),
        "draw": np.repeat(np.array([draw for *_, draw, _ in cells], np.int16), n),
        "image": np.tile(np.arange(n, dtype=np.int32), len(cells)),
        "label": np.tile(run.labels, len(cells)),
    }
    for name in COLUMNS[len(whole) :]:
        parts = [found[name] for found in arrays]
        whole[name] = pd.concat(parts, ignore_index=True) if parts else pd.Series(dtype="float32")
    return pd.DataFrame(whole)


def level_label(run: Run, kind: str, level: float) -> str:
    """Return a level as text, such as "2/255", with all its digits."""
    return format_level(level, level_norm(kind, run.sweep.space), digits=MOST_DIGITS)


def _cells(run: Run) -> Iterator[tuple[str, str, float, int, Outcomes]]:
    """Yield kind, model, level, draw and outcomes of each measured part, in the order of results.csv."""
    done = run.done()
    for kind in run.kinds:
        for model in run.models:
            for level in run.levels(kind):
                for draw in range(run.draws):
                    if (model, kind, level, draw) in done:
                        yield kind, model, level, draw, run.outcome(model, kind, level, draw)


def _arrays(outcomes: Outcomes, labels: NDArray[np.int16]) -> dict[str, "pd.Series[Any]"]:
    """Return the columns (n,) of one cell; columns that `outcomes` lacks have missing values only."""
    found = {"correct": pd.Series(outcomes["prediction"] == labels)}
    for name, (stored, dtype) in STORED.items():
        values = outcomes.get(stored, pd.NA if dtype in ("boolean", "Int32") else np.nan)
        found[name] = pd.Series(values, index=range(len(labels)), dtype=dtype)
    return found


def _category(values: list[str], n: int) -> "pd.Categorical[Any]":
    """Return a column with each of the `values` n times; its categories are in the order of the values."""
    categories: pd.Index[str] = pd.Index(list(dict.fromkeys(values)))
    codes = np.repeat(categories.get_indexer(pd.Index(values)), n)
    return pd.Categorical.from_codes(codes, categories)
