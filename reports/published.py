"""The published series (Dziedzic et al., ICML 2019), to be laid over runs on the same axis."""

from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

LABEL = "published (P100, 2019, one seed)"
DATASETS = ("cifar10", "cifar10-sample")  # the published numbers are CIFAR-10 test images
MODELS = {  # label -> column
    "fp32": "fp32",
    "fp16": "fp16",
    "fp32-early": "fp32_early",
    "fft50": "fft50",
    "fft85": "fft85",
}
# (kind, space) -> file: the axes on which the series were measured, and no others.
FILES = {
    ("gaussian", "normalized"): "gaussian_noise.csv",
    ("uniform", "legacy"): "uniform_noise.csv",
    ("pixel", "legacy"): "pixel.csv",
}
SMALL = 1000  # images of the smaller published pixel series


@dataclass(frozen=True)
class Series:
    """One published curve: levels, and accuracies as fractions."""

    model: str
    levels: list[float]
    accuracy: list[float]


def series(*, kind: str, space: str, dataset: str, n: int, models: list[str], last: float) -> list[Series]:
    """Return the published curves of ``models`` up to level ``last``; none where the axes differ.

    The pixel attack was published on 1,000 and on all images: the series nearer to ``n`` is taken.
    """
    if (kind, space) not in FILES or dataset not in DATASETS:
        return []
    source = files("blrobust.reports") / "reference" / FILES[kind, space]
    with source.open() as file:
        frame = pd.read_csv(file)
    level = frame.columns[0]
    frame = frame[frame[level] <= last]
    ending = ("_1k" if n <= SMALL else "_10k") if kind == "pixel" else ""
    columns = {m: MODELS[m] + ending for m in models if m in MODELS}
    return [
        Series(model, frame[level].tolist(), (frame[column] / 100).tolist())
        for model, column in columns.items()
        if column in frame
    ]
