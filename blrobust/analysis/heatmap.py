"""The numbers of a Fourier heat map: a row for each frequency, and means over rings of frequencies."""

import pandas as pd

from blrobust.analysis.flags import model_flags
from blrobust.analysis.statistics import wilson
from blrobust.runs.measurement import Measurement

Frequency = tuple[int, int]


def axis_frequencies(size: int) -> range:
    """Return the signed frequencies of a centred map with `size` rows: -15..15 for 31, -16..15 for 32."""
    return range(-(size // 2), size - size // 2)


def canonical(row: int, column: int, *, height: int, width: int) -> Frequency:
    """Return one frequency that stands for (row, column), (-row, -column) and their aliases.

    All of them are the same wave on an image of `height` x `width` pixels.
    """
    return min((row % height, column % width), (-row % height, -column % width))


def distinct(size: int, *, height: int, width: int) -> list[Frequency]:
    """Return the frequencies of a map that are different waves on an image of `height` x `width` pixels.

    For 32 x 32 pixels these are 481 waves for size 31 and 514 for size 32.
    """
    axis = axis_frequencies(size)
    return sorted({canonical(k, l_, height=height, width=width) for k in axis for l_ in axis})


def table(measurement: Measurement) -> pd.DataFrame:
    """Return one row per model and frequency of the map, the content of heatmap.csv.

    The frequencies (k, l) and (-k, -l), which are the same wave, both have a row. A model that failed has no
    rows.

    Columns: model, dataset, row, column (signed frequencies), norm, n, errors (count), error (share), ci_low,
    ci_high (Wilson interval, 95 %), clean_error, not_finite (number of errors whose logits are not finite).
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
    """Return each model's mean error over low, middle and high frequencies.

    These are three bands of equal width of the frequency max(|row|, |column|), by which a band-limited layer
    cuts the spectrum. (0, 0) is left out. Further columns: clean, worst and mean error. `frame` is a result
    of `table`.
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
    """Return reasons to doubt the results of each model, such as predictions without finite logits."""
    found = {}
    for model in measurement.record["models"]:
        state = measurement.done.get(model["label"], {})
        not_finite = state.get("clean_not_finite", 0) + sum(state.get("not_finite", []))
        found[model["label"]] = model_flags(measurement.record, model["label"], not_finite=not_finite)
    return found
