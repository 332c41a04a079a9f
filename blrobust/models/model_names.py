"""Model names: the grammar, and what a name stands for before anything is loaded."""

import csv
import re

from blconv.band import FftSize
from blrobust import __version__
from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.models import ARCHITECTURES
from blrobust.models.checkpoint import Facts

# The paper's "50 %" and "85 %" models: nominal settings whose effective compression on the authors'
# ResNet-18 is 51.5 and 86.0 %. Nominal 0.85 would leave the last stage its mean value only.
PUBLISHED_COMPRESSION = {50: 0.48, 85: 0.84}

GRAMMAR = {
    "fp32": "full spectrum, single precision",
    "fp16, bf16": "full spectrum, half precision",
    "fftNN": "band-limited by NN % (1 to 99); fft50 and fft85 are the paper's, nominally 48 and 84 %",
    "fp16-fftNN, bf16-fftNN": "band-limited and half precision",
    "fp32-early": "fp32 stopped at fft85's accuracy: is it the band, or only the lower accuracy?",
    "NAME-compact": "any of the band-limited names, with transforms of the padded input's size",
    "LABEL=FILE.safetensors": "a checkpoint of your own, shown as LABEL",
    "LABEL=PACKAGE.MODULE:FACTORY": "your own model: a function without arguments that returns an nn.Module",
}
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_NAME = re.compile(r"(?:(?P<precision>fp16|bf16)-)?fft(?P<percent>[1-9][0-9]?)(?P<compact>-compact)?")


def parse_names(text: str) -> list[str]:
    """The model names in a comma-separated list; a label that contains a comma is put in double quotes.

    Raises `UserError` for an empty list, an empty name or two models with the same label.
    """
    try:
        names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    except csv.Error as error:  # a line break, for example
        raise UserError(f"models {text!r} is no comma-separated list: {error}") from None
    if not names or "" in names:
        raise UserError(f"models {text!r} has an empty name; give names such as fp32,fft50,fft85")
    labels = [label_of(name) for name in names]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"model {label!r} is given twice in {text!r}; every label must be different")
    return names


def label_of(name: str) -> str:
    """What a model is called in tables: the name, or what stands before the last `=`.

    Raises `UserError` for a label that is empty or not printable.
    """
    label, equals, _ = name.rpartition("=")
    if not equals:
        return name
    if not label.strip() or not label.isprintable():
        raise UserError(f"label {label!r} of model {name!r} must be printable text and not empty")
    return label


def settings_of(name: str) -> tuple[str, float, FftSize]:
    """Precision, nominal compression and transform size. Raises `UserError` outside the grammar."""
    if match := _NAME.fullmatch(name):
        percent = int(match["percent"])
        compression = PUBLISHED_COMPRESSION.get(percent, percent / 100)
        return match["precision"] or "fp32", compression, "compact" if match["compact"] else "paper"
    if name in ("fp32", "fp16", "bf16", "fp32-early"):
        return name.removesuffix("-early"), 0.0, "paper"
    raise UserError(
        f"unknown model {name!r}; legal are fp32, fp16, bf16, fp32-early, fftNN, fp16-fftNN, "
        "bf16-fftNN (NN from 1 to 99, also with -compact), LABEL=FILE.safetensors, LABEL=MODULE:FACTORY"
    )


def facts_of(name: str, *, arch: str, dataset: Dataset) -> Facts:
    """What a model called `name` is before training. Raises `UserError` outside the grammar."""
    precision, compression, fft_size = settings_of(name)
    return Facts(
        arch=check_arch(arch),
        classes=len(dataset.classes),
        precision=precision,
        compression=compression,
        fft_size=fft_size,
        dataset=trained_on(dataset),
        mean=dataset.mean,
        std=dataset.std,
        seed=0,
        version=__version__,
    )


def check_arch(arch: str) -> str:
    """Return `arch`, or raise `UserError` naming the legal ones."""
    if arch not in ARCHITECTURES:
        raise UserError(f"unknown architecture {arch!r}; choose {', '.join(ARCHITECTURES)}")
    return arch


def trained_on(dataset: Dataset) -> str:
    """The data set whose weights fit: its own; cifar10 for the sample and a user's images of its classes.

    A user's classes must have CIFAR-10's names in its order, or no names: `classes_assumed`.
    """
    own = dataset.name.startswith(("folder:", "npz:"))
    named = dataset.classes == CIFAR10_CLASSES or classes_assumed(dataset)
    if own and named and tuple(dataset.images.shape[1:]) == (3, 32, 32):
        return "cifar10"
    if own:
        return re.sub(r"[^A-Za-z0-9]+", "-", dataset.name).strip("-")
    return dataset.name.removesuffix("-sample")


def classes_assumed(dataset: Dataset) -> bool:
    """Whether a user's ten classes have numbers for names, and are taken for CIFAR-10's in its order."""
    return dataset.name.startswith("npz:") and dataset.classes == tuple(map(str, range(10)))


def file_stem(name: str, *, arch: str, dataset: str) -> str:
    """The name of a checkpoint file without its ending."""
    return f"{dataset}-{arch}-{name}"
