"""The published accuracy curves (Dziedzic et al., ICML 2019), for figures with the same axis."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

from blrobust.perturbations.paper_bounds import WIDTH

LABEL = "Dziedzic et al. 2019, ResNet-18, one seed"
ARCH = "resnet18"
DATASETS = ("cifar10", "cifar10-sample")  # the published numbers are CIFAR-10 test images
MODELS = {  # label -> column
    "fp32": "fp32",
    "fp16": "fp16",
    "fp32-early": "fp32_early",
    "fft50": "fft50",
    "fft85": "fft85",
}
SMALL = 1000  # the number of images of the smaller of the two published pixel series
ALL_IMAGES = 10_000  # the CIFAR-10 test set


@dataclass(frozen=True)
class _Source:
    """A file of published curves: number of images, prefix of the column names, and scale of the levels.

    A published level times `scale` is a level in the units of this project.
    """

    file: str
    images: int = ALL_IMAGES
    before: str = ""
    scale: float = 1


# By kind and input space: the published curves are valid for exactly these axes.
SOURCES = {
    ("gaussian", "normalized"): _Source("gaussian_noise.csv"),
    ("uniform", "legacy"): _Source("uniform_noise.csv"),
    ("pixel", "legacy"): _Source("pixel.csv"),
    ("local-search", "legacy"): _Source("local_search.csv", 100),
    ("fgsm", "legacy"): _Source("fgsm.csv", 1000, scale=WIDTH),  # Foolbox 1: share of the bounds
    ("contrast", "legacy"): _Source("contrast.csv", 1000),
    ("gaussian-blur", "legacy"): _Source("gaussian_blur.csv", 100),
    ("rotation", "legacy"): _Source("spatial.csv", 200, before="rot_"),
    ("translation", "legacy"): _Source("spatial.csv", 200, before="trans_"),
}

# Clean accuracy by effective compression in the test (in per cent): file, and columns by trained model.
BAND_LIMITS: dict[str, tuple[str, dict[str, str]]] = {
    "rates": ("clean_resnet18_cifar10.csv", {"fp32, fftNN": "acc"}),
    "mismatch": (
        "train_vs_test_resnet18_cifar10.csv",
        {"fp32": "train_C0", "fft30": "train_C30", "fft50": "train_C50", "fft85": "train_C85"},
    ),
}


@dataclass(frozen=True)
class Series:
    """One published curve: the name of the model, number of images, levels, and accuracies as fractions."""

    model: str
    images: int
    levels: list[float]
    accuracy: list[float]


def series(
    *, kind: str, space: str, datasets: Iterable[str], n: int, models: list[str], last: float
) -> list[Series]:
    """Return the published curves of `models` up to the level `last`.

    `datasets` are the data sets of the runs in the figure, and `n` is the largest number of images of a run.
    The list is empty if nothing was published for this kind of noise or attack, input space and data set. The
    pixel attack was published for 1,000 images and for all 10,000; the larger series is used for `n` above
    1,000.
    """
    if (kind, space) not in SOURCES or not set(datasets) <= set(DATASETS):
        return []
    source = SOURCES[kind, space]
    frame = _read(source.file)
    levels = frame.pop(frame.columns[0]) * source.scale
    frame, levels = frame[levels <= last], levels[levels <= last]
    after, images = "", source.images
    if kind == "pixel":
        after, images = ("_1k", SMALL) if n <= SMALL else ("_10k", ALL_IMAGES)
    columns = {m: f"{source.before}{MODELS[m]}{after}" for m in models if m in MODELS}
    return [
        Series(model, images, levels.tolist(), (frame[column] / 100).tolist())
        for model, column in columns.items()
        if column in frame
    ]


def published_levels(kind: str) -> list[float]:
    """Return the levels of the published curves of a kind of noise or attack, in this project's units."""
    source = next(source for (name, _), source in SOURCES.items() if name == kind)
    frame = _read(source.file)
    return [float(level) * source.scale for level in frame[frame.columns[0]]]


def band_limits(topic: str, *, datasets: Iterable[str], models: Iterable[str]) -> list[Series]:
    """Return the published curves of clean accuracy over the effective compression in the test, in per cent.

    `topic` is a key of `BAND_LIMITS`, and `models` are the trained models, or families of models, of the
    figure. The list is empty for other data sets than CIFAR-10.
    """
    if not set(datasets) <= set(DATASETS):
        return []
    file, columns = BAND_LIMITS[topic]
    frame = _read(file)
    levels = frame["effective" if "effective" in frame else "effective_test_rate"].tolist()
    return [
        Series(model, ALL_IMAGES, levels, (frame[columns[model]] / 100).tolist())
        for model in models
        if model in columns
    ]


def _read(file: str) -> pd.DataFrame:
    with (files("blrobust.reports") / "reference" / file).open() as opened:
        return pd.read_csv(opened)


def caption(images: int, architectures: Iterable[str | None]) -> str:
    """Return the text about the dashed curves of a figure: their source, and how they differ from the models.

    `images` is the number of images of the dashed curves, and `architectures` are those of the models.
    """
    same = [architecture == ARCH for architecture in architectures]
    if all(same):
        difference = "the training differs from that of the models here"
    elif any(same):
        difference = "the training, and of some models the architecture, differ from those here"
    else:
        difference = "architecture and training differ from the models here"
    return f"Dashed: {LABEL}, {images:,} images, on the same axis; {difference}."
