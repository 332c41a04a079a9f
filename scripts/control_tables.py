"""Tables of docs/controls.md, from docs/results/controls-*.csv (`scripts/export_run.py`)."""

import json
from pathlib import Path

import pandas as pd
from markdown_tables import percent, percent_within, points, table, within

from blrobust.analysis.statistics import SIGNIFICANCE
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.perturbations.levels import format_level
from blrobust.reports import paper_curves

RESULTS = Path(__file__).parents[1] / "docs" / "results"
LEVELS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # of 21 measured
PIXEL_LEVELS = (0, 50, 100, 150, 200, 300, 500, 700, 1000)  # of 21 measured
DISTANCE_LEVEL = 0.5
AGAINST = (
    *("fp32", "fp32-early", "fp32-narrow"),
    *("lowpass-fft50+fp32", "lowpass-fft85+fp32", "fp32-lowpass", "fp32-noise"),
)


def accuracy() -> list[str]:
    """Return the table of accuracy under Gaussian noise, a row per model and a column per level."""
    cells = _cells(pd.read_csv(RESULTS / "controls-noise.csv"))
    models = dict.fromkeys(model for _, model, _ in cells)
    head = ["model", *(f"σ = {level:g}" for level in LEVELS)]
    return table(head, [[f"`{m}`", *(cells["gaussian", m, level] for level in LEVELS)] for m in models])


def summary() -> list[str]:
    """Return the table of clean and mean accuracy and the noise level at 50 %, the highest mean first."""
    frame = pd.read_csv(RESULTS / "controls-noise-summary.csv").sort_values("mean", ascending=False)
    head = ["model", "effective compression", "clean", "mean over σ", "σ at which accuracy falls to 50 %"]
    rows = [
        [
            f"`{row['model']}`",
            f"{row['effective_compression']:.3f}" if row["effective_compression"] else "none",
            percent_within(row["clean"], row["clean_low"], row["clean_high"]),
            percent_within(row["mean"], row["mean_low"], row["mean_high"]),
            within(row["half_level"], row["half_level_low"], row["half_level_high"]),
        ]
        for row in frame.to_dict("records")
    ]
    return table(head, rows)


def published() -> list[str]:
    """Return the table of published accuracies and ours at `LEVELS`, and the means over all levels.

    Raises `ValueError` if the published levels are not the measured ones.
    """
    frame = pd.read_csv(RESULTS / "controls-noise.csv")
    levels = sorted(frame.level.unique())
    ours = {
        model: dict(zip(rows.level, rows.accuracy, strict=True))
        for model, rows in frame.groupby("model", sort=False)
    }
    series = paper_curves.series(
        kind="gaussian",
        space="normalized",
        datasets=["cifar10"],
        n=int(frame.n.max()),
        models=list(ours),
        last=max(levels),
    )
    rows = []
    for curve in series:
        if curve.levels != levels:
            raise ValueError(f"{curve.model}: published at {curve.levels}, measured at {levels}")
        theirs = dict(zip(curve.levels, curve.accuracy, strict=True))
        for source, cells in (("published", theirs), ("here", ours[curve.model])):
            shown = [percent(cells[level]) for level in LEVELS]
            rows.append([f"`{curve.model}`", source, *shown, percent(sum(cells.values()) / len(levels))])
    return table(["model", "", *(f"σ = {level:g}" for level in LEVELS), "mean of 21 levels"], rows)


def distance() -> list[str]:
    """Return a sentence for the README: how far the bundled networks are from the published ones."""
    frame = pd.read_csv(RESULTS / "controls-noise.csv")
    frame = frame[(frame.kind == "gaussian") & (frame.level == DISTANCE_LEVEL)]
    ours = dict(zip(frame.model, frame.accuracy, strict=True))
    series = paper_curves.series(
        kind="gaussian", space="normalized", datasets=["cifar10"], n=int(frame.n.max()),
        models=["fp32", "fft50", "fft85"], last=2.0,
    )  # fmt: skip
    theirs = {curve.model: dict(zip(curve.levels, curve.accuracy, strict=True)) for curve in series}
    parts = [
        f"{name} {percent(ours[name])} % (published: {percent(theirs[name][DISTANCE_LEVEL])} %)"
        for name in theirs
    ]
    return [
        "Dashed curves: the results of the paper that proposed band-limited convolutions (Dziedzic et al. "
        "2019), ResNet-18s trained with one seed. The models here are ResNet-20s for CIFAR-10: 0.27 million "
        f"parameters, far fewer than a ResNet-18. At sigma {DISTANCE_LEVEL:g} on {frame.n.max():,} images, "
        f"the accuracies of the ResNet-20s are: {', '.join(parts)}."
    ]


def noise_paired() -> list[str]:
    """Return the table of tests of each band-limited model against those in `AGAINST`, over noise levels."""
    tests = pd.read_csv(RESULTS / "controls-noise-paired.csv")
    levels = tests.level.nunique()
    head = ["band-limited", "against", "mean", f"levels above, of {levels}", "levels below"]
    rows = [
        [f"`{model}`", f"`{other}`", *_compared(pair), *_extremes(pair)]
        for (model, other), pair in _pairs(tests[tests.kind == "gaussian"])
    ]
    return table([*head, "best, at σ", "worst, at σ"], rows)


def attack_paired() -> list[str]:
    """Return the table of tests of each band-limited model against those in `AGAINST`, for each attack.

    A cell has the mean difference of accuracy, and the numbers of strengths with a significantly higher and a
    significantly lower accuracy.
    """
    tests = pd.read_csv(RESULTS / "controls-attacks-paired.csv")
    kinds = list(dict.fromkeys(tests.kind))
    found = {kind: dict(_pairs(tests[tests.kind == kind])) for kind in kinds}
    rows = []
    for model, other in found[kinds[0]]:
        cells = [_compared(found[kind][model, other]) for kind in kinds]
        shown = [f"{mean} ({above} above, {below} below)" for mean, above, below in cells]
        rows.append([f"`{model}`", f"`{other}`", *shown])
    counts = {kind: tests[tests.kind == kind].level.nunique() for kind in kinds}
    return table(["band-limited", "against", *(f"`{kind}`, of {counts[kind]}" for kind in kinds)], rows)


def _pairs(tests: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Return the tests against the models in `AGAINST`, by (band-limited model, other model)."""
    chosen = tests[tests.against.isin(AGAINST)]
    pairs = chosen.groupby(["model", "against"], sort=False)
    return [((str(model), str(other)), pair) for (model, other), pair in pairs]


def _compared(pair: pd.DataFrame) -> list[str]:
    """Return the mean difference of accuracy, and the numbers of levels significantly above and below 0."""
    significant = pair.p_holm < SIGNIFICANCE
    above, below = significant & (pair.difference > 0), significant & (pair.difference < 0)
    return [points(pair.difference.mean()), str(int(above.sum())), str(int(below.sum()))]


def _extremes(pair: pd.DataFrame) -> list[str]:
    """Return the largest and the smallest difference of accuracy, each with its level."""
    ends = pair.loc[pair.difference.idxmax()], pair.loc[pair.difference.idxmin()]
    return [f"{points(end.difference)} at {end.level:g}" for end in ends]


def attacks() -> list[str]:
    """Return a table of accuracy for each attack, with a row per model and a column per strength."""
    frame = pd.read_csv(RESULTS / "controls-attacks.csv")
    cells = _cells(frame)
    lines: list[str] = []
    for kind, rows in frame.groupby("kind", sort=False):
        strength = ATTACKS[str(kind)].strength
        is_pixel = kind == "pixel"
        levels = [level for level in sorted(rows.level.unique()) if not is_pixel or level in PIXEL_LEVELS]
        head = [
            "model",
            *(f"{level:g}" if is_pixel else format_level(_snap(level), "Linf") for level in levels),
        ]
        shown = [
            [f"`{model}`", *(cells[str(kind), model, level] for level in levels)]
            for model in dict.fromkeys(rows.model)
        ]
        lines += ["", f"`{kind}`, by the {strength.axis}:", "", *table(head, shown)]
    return lines[1:]


def _snap(level: float) -> float:
    """Return `level` rounded to half steps of 8 bits, 1/510: files have only six decimals of a strength."""
    return round(2 * 255 * level) / (2 * 255)


def selection() -> list[str]:
    """Return the table of held-out accuracies of all twins, with the chosen narrow and early ones marked."""
    record = json.loads((RESULTS / "controls-selection.json").read_text("utf-8"))
    chosen = {f"width{record['chosen']['width']}", f"epochs{record['chosen']['epochs']}"}
    names = {"width": "`fp32-narrow`, {} channels", "epochs": "`fp32-early`, {} epochs"}
    rows = []
    for candidate, share in record["held_out"].items():
        kind = next((kind for kind in names if candidate.startswith(kind)), None)
        shown = names[kind].format(candidate.removeprefix(kind)) if kind else f"`{candidate}`"
        rows.append([shown, percent(share), "chosen" if candidate in chosen else ""])
    return table(["network", "accuracy on held-out images", ""], rows)


def _cells(frame: pd.DataFrame) -> dict[tuple[str, str, float], str]:
    """Return accuracy with its confidence interval as text, by (kind, model, level)."""
    return {
        (row["kind"], row["model"], row["level"]): percent_within(
            row["accuracy"], row["ci_low"], row["ci_high"]
        )
        for row in frame.to_dict("records")
    }
