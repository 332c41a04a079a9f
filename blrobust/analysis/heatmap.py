"""The numbers of a Fourier heat map: a row for each frequency, and means over rings of frequencies."""

import pandas as pd

from blrobust.analysis.flags import model_flags
from blrobust.analysis.statistics import wilson
from blrobust.runs.measurement import Measurement

Frequency = tuple[int, int]


def axis_frequencies(size: int) -> range:
    """Return the signed frequencies of a centred map of `size`: -15..15 for 31, -16..15 for 32."""
    return range(-(size // 2), size - size // 2)


def canonical(row: int, column: int, *, height: int, width: int) -> Frequency:
    """Return the frequency that stands for both (row, column) and (-row, -column), modulo the image size."""
    return min((row % height, column % width), (-row % height, -column % width))


def distinct(size: int, *, height: int, width: int) -> list[Frequency]:
    """Return the different waves of a map: for images of 32 x 32, 481 for size 31 and 514 for size 32."""
    axis = axis_frequencies(size)
    return sorted({canonical(k, l_, height=height, width=width) for k in axis for l_ in axis})


def table(measurement: Measurement) -> pd.DataFrame:
    """Return one row per model and frequency of the map, the content of heatmap.csv.

    Both frequencies of a pair (k, l), (-k, -l) have a row. A model that failed has none.

    Columns: model, dataset, row, column (signed frequencies), norm, n, errors, error, ci_low, ci_high
    (Wilson, 95 %), clean_error, not_finite (errors whose logits are not finite).
    """
    config, data = measurement.record["config"], measurement.record["dataset"]
    height, width = data["shape"][-2:]
    axis, n = axis_frequencies(config["size"]), data["n"]
    index = {f: i for i, f in enumerate(distinct(config["size"], height=height, width=width))}
    rows = []
    for model in measurement.record["models"]:
        state = measurement.done.get(model["label"], {"wrong": []})
        if len(state["wrong"]) < len(index):
            continue
        intervals = {wrong: wilson(wrong / n, n) for wrong in set(state["wrong"])}
        for k in axis:
            for l_ in axis:
                at = index[canonical(k, l_, height=height, width=width)]
                wrong = state["wrong"][at]
                not_finite = state["not_finite"][at] if "not_finite" in state else 0
                shares = (*intervals[wrong], state["clean"] / n)
                cell = (k, l_, config["norm"], n, wrong, *shares, not_finite)
                rows.append((model["label"], data["name"], *cell))
    names = ("model", "dataset", "row", "column", "norm", "n", "errors", "error")
    return pd.DataFrame(rows, columns=[*names, "ci_low", "ci_high", "clean_error", "not_finite"])


def rings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each model's mean error over three bands of equal width: low, middle, high frequencies.

    The frequency of (k, l) is max(|k|, |l|), as a band-limited layer cuts it; (0, 0) is left out.
    Further columns: clean, worst and mean error.
    """
    radius = frame[["row", "column"]].abs().max(axis=1)
    third = radius.max() / 3
    ring = (radius > third).astype(int) + (radius > 2 * third).astype(int)
    waves = frame.assign(ring=ring.map({0: "low", 1: "middle", 2: "high"}))[radius > 0]
    means = waves.pivot_table(index="model", columns="ring", values="error", sort=False)
    facts = frame.groupby("model", sort=False).agg(clean=("clean_error", "first"), worst=("error", "max"))
    mean = waves.groupby("model", sort=False)["error"].mean().rename("mean")
    return facts.join(mean).join(means.reindex(columns=["low", "middle", "high"]))


def flags(measurement: Measurement) -> dict[str, list[str]]:
    """Return the flags of each model, and the number of its predictions without finite logits."""
    found = {}
    for model in measurement.record["models"]:
        state = measurement.done.get(model["label"], {})
        not_finite = state.get("clean_not_finite", 0) + sum(state.get("not_finite", []))
        found[model["label"]] = model_flags(measurement.record, model["label"], not_finite=not_finite)
    return found
