"""The published accuracy curves (Dziedzic et al., ICML 2019), for figures with the same axis."""

from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

from blrobust.perturbations.paper_bounds import WIDTH

LABEL = "Dziedzic et al. 2019, ResNet-18, one seed"
DATASETS = ("cifar10", "cifar10-sample")  # the published numbers are CIFAR-10 test images
MODELS = {  # label -> column
    "fp32": "fp32",
    "fp16": "fp16",
    "fp32-early": "fp32_early",
    "fft50": "fft50",
    "fft85": "fft85",
}
SMALL = 1000  # images of the smaller published pixel series


@dataclass(frozen=True)
class _Source:
    """A file of published curves, the prefix of its column names, and the factor that converts its levels."""

    file: str
    before: str = ""
    scale: float = 1


# (kind, space): the axes on which the series were measured, and no others.
SOURCES = {
    ("gaussian", "normalized"): _Source("gaussian_noise.csv"),
    ("uniform", "legacy"): _Source("uniform_noise.csv"),
    ("pixel", "legacy"): _Source("pixel.csv"),
    ("local-search", "legacy"): _Source("local_search.csv"),
    ("fgsm", "legacy"): _Source("fgsm.csv", scale=WIDTH),  # of the bounds, in Foolbox 1
    ("contrast", "legacy"): _Source("contrast.csv"),
    ("gaussian-blur", "legacy"): _Source("gaussian_blur.csv"),
    ("rotation", "legacy"): _Source("spatial.csv", before="rot_"),
    ("translation", "legacy"): _Source("spatial.csv", before="trans_"),
}


@dataclass(frozen=True)
class Series:
    """One published curve: the name of the model, levels, and accuracies as fractions."""

    model: str
    levels: list[float]
    accuracy: list[float]


def series(*, kind: str, space: str, dataset: str, n: int, models: list[str], last: float) -> list[Series]:
    """Return the published curves of `models` up to the level `last`.

    The list is empty if nothing was published for this kind of noise or attack, input space and data set. The
    pixel attack was published for 1,000 images and for all images; the curve whose number of images is nearer
    to `n` is used.
    """
    if (kind, space) not in SOURCES or dataset not in DATASETS:
        return []
    source = SOURCES[kind, space]
    with (files("blrobust.reports") / "reference" / source.file).open() as file:
        frame = pd.read_csv(file)
    levels = frame.pop(frame.columns[0]) * source.scale
    frame, levels = frame[levels <= last], levels[levels <= last]
    after = ("_1k" if n <= SMALL else "_10k") if kind == "pixel" else ""
    columns = {m: f"{source.before}{MODELS[m]}{after}" for m in models if m in MODELS}
    return [
        Series(model, levels.tolist(), (frame[column] / 100).tolist())
        for model, column in columns.items()
        if column in frame
    ]
