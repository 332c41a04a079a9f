"""Model names: their grammar and the settings that follow from them; nothing is loaded."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

from blconv.band import FftSize
from blrobust import __version__
from blrobust.data.datasets import Dataset
from blrobust.data.given_images import NAME as GIVEN
from blrobust.errors import UserError, shorten, shown
from blrobust.models import ARCHITECTURES
from blrobust.models.channel_names import GRAMMAR as CHANNELS
from blrobust.models.channel_names import split_channels
from blrobust.models.checkpoint import Facts

# The paper's "50 %" and "85 %" models: nominal settings whose effective compression on the authors'
# ResNet-18 is 51.5 and 86.0 %. Nominal 0.85 would leave the last stage its mean value only.
PUBLISHED_COMPRESSION = {50: 0.48, 85: 0.84}

# Number of channels of fp32-narrow's first stage, by architecture. Its clean accuracy on 5,000 held-out
# training images is the nearest to fft85's.
NARROW_WIDTH = {"resnet20": 5}

GRAMMAR = {
    "fp32": "ordinary network without a band limit, in 32-bit precision",
    "fp16, bf16": "ordinary network, in 16-bit precision",
    "fftNN": "band-limited: drops nominally NN % of the frequencies (1 to 99); fft50 and fft85 are the "
    "paper's models, nominally 48 and 84 %",
    "fp16-fftNN, bf16-fftNN": "band-limited, in 16-bit precision",
    "fp32-early": "fp32 trained so briefly that its clean accuracy is about that of fft85",
    "fp32-noise": "fp32 trained on images with Gaussian noise",
    "fp32-lowpass": "fp32 with a low-pass filter in front, in training and in use, which drops the same "
    "nominal share of the frequencies as fft85",
    "fp32-narrow": "fp32 with fewer channels, so that its clean accuracy is about that of fft85",
    "NAME-compact": "any of the band-limited models, with Fourier transforms of the size of the padded input",
    "NAME-seedN": "any of the names above, trained with the seed N from 1 on; NAME itself has seed 0",
    "NAME@NN": "the trained model NAME, tested at a band limit of NN % (0 to 99); 0 means no band limit",
    "LABEL=FILE.safetensors": "a checkpoint of your own, shown as LABEL; @NN can follow",
    "LABEL=PACKAGE.MODULE:FACTORY": "your own model: a function without arguments that returns an nn.Module "
    "or another callable that takes pixels and returns logits",
    "[LABEL=]CHANNEL+...+MODEL": "a model behind transforms of the image, applied from left to right",
    **{f"  {word}": meaning for word, meaning in CHANNELS.items()},
}
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_NAME = re.compile(r"(?:(?P<precision>fp16|bf16)-)?fft(?P<percent>[1-9][0-9]?)(?P<compact>-compact)?")
_TESTED_AT = re.compile(r"(?P<model>.+)@(?P<percent>0|[1-9][0-9]?)")
_SEED = re.compile(r"(?P<name>.+)-seed(?P<seed>[1-9][0-9]{0,8})")
MOST_SEED = 999_999_999  # in a name

MOST_MODELS = 256  # the most models of a run; all are in memory at once
MOST_LABEL = 1000
MOST_CHANNELS = 32  # the most channels in front of a model

FORMULA = ("=", "+", "-", "@")


def join_names(names: Iterable[str]) -> str:
    """Return the comma-separated list from which `parse_names` returns `names`."""
    file = io.StringIO()
    csv.writer(file, lineterminator="").writerow(names)
    return file.getvalue()


def parse_names(text: str) -> list[str]:
    """Return the model names in a comma-separated list; a label that contains a comma is in double quotes.

    Raises `UserError` for an empty or too long list, an empty name or two models with the same label.
    """
    try:
        names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    except csv.Error as error:  # a line break, for example
        raise UserError(f"models {text!r} is not a comma-separated list: {error}") from None
    if not names or "" in names:
        raise UserError(f"models {text!r} has an empty name; give names such as fp32,fft50,fft85")
    if len(names) > MOST_MODELS:
        raise UserError(f"models: got {len(names):,} names; legal: at most {MOST_MODELS}, in several runs")
    labels = [label_of(name) for name in names]
    for label in labels:
        if len(label) > MOST_LABEL:
            raise UserError(f"label {shorten(label)!r}: legal: at most {MOST_LABEL:,} characters")
        if labels.count(label) > 1:
            raise UserError(f"model {label!r} is given twice in {text!r}; every label must be different")
    return names


def label_of(name: str) -> str:
    """Return the label of a model in tables: the part of its name before the last `=`, or the whole name.

    Raises `UserError` for a label that is empty or not printable, and for one that a spreadsheet would read
    as a formula.
    """
    label, equals, _ = name.rpartition("=")
    if not equals:
        return name
    if not label.strip() or not label.isprintable():
        raise UserError(f"label {label!r} of model {name!r} must be printable text and not empty")
    if label.lstrip().startswith(FORMULA):
        raise UserError(
            f"label {label!r} of model {name!r} starts as a formula of a spreadsheet, which would compute it "
            f"when it opens results.csv; legal: a label that does not start with {' '.join(FORMULA)}"
        )
    return label


@dataclass(frozen=True)
class Target:
    """The parts of a model name `[LABEL=]CHANNEL+...+MODEL`, where a channel is a transform of the image."""

    label: str
    channels: tuple[str, ...]
    model: str  # a name in `GRAMMAR`, or the user's checkpoint file or factory
    tested_at: int | None = None  # band limit in per cent, if it is not the one of the training

    @classmethod
    def of(cls, name: str) -> "Target":
        """Return the parts of the model name `name`.

        Raises `UserError` for an illegal label, and for a channel without a model behind it.
        """
        label = label_of(name)
        channels, model = split_channels(name.rpartition("=")[2])
        if len(channels) > MOST_CHANNELS:
            raise UserError(
                f"model {shorten(name)!r}: got {len(channels):,} channels; legal: at most {MOST_CHANNELS}"
            )
        return cls(label, channels, *split_tested_at(model))


def split_tested_at(name: str) -> tuple[str, int | None]:
    """Return the parts of `NAME@NN`: the name and NN, in per cent; NN is None for a name without it."""
    match = _TESTED_AT.fullmatch(name)
    return (match["model"], int(match["percent"])) if match else (name, None)


def compression_of(percent: int) -> float:
    """Return the nominal compression that a number in a model name means; 50 and 85 are the paper's."""
    return PUBLISHED_COMPRESSION.get(percent, percent / 100)


@dataclass(frozen=True)
class Settings:
    """The settings of a network that follow from its name."""

    precision: str = "fp32"
    compression: float = 0.0  # nominal compression of the convolutions
    fft_size: FftSize = "paper"
    low_pass: float = 0.0  # nominal compression of the image
    is_narrow: bool = False


# Networks without band limits that are smaller or trained otherwise, for comparison with band-limited ones.
CONTROLS = {
    "fp32-early": Settings(),
    "fp32-noise": Settings(),
    "fp32-lowpass": Settings(low_pass=PUBLISHED_COMPRESSION[85]),
    "fp32-narrow": Settings(is_narrow=True),
}


def split_seed(name: str) -> tuple[str, int]:
    """Return a model name without its training seed, and this seed: ("fft50", 1) for "fft50-seed1".

    A name without `-seedN` has seed 0. The name may have channels and need not be in the grammar.
    """
    match = _SEED.fullmatch(name)
    return (match["name"], int(match["seed"])) if match else (name, 0)


def with_seed(name: str, seed: int) -> str:
    """Return the name of the model `name`, which has no seed, trained with `seed`; see `split_seed`.

    Raises `UserError` for a seed that a name cannot have.
    """
    if not 0 <= seed <= MOST_SEED:
        raise UserError(f"seed: got {seed} for {name}; legal: 0 to {MOST_SEED} in the name of a model")
    return f"{name}-seed{seed}" if seed else name


def settings_of(name: str) -> Settings:
    """Return the settings of the network called `name`. Raises `UserError` for a name outside the grammar."""
    settings = _settings(split_seed(name)[0])
    if settings is None:
        raise UserError(
            f"unknown model {name!r}; legal are fp32, fp16, bf16, {', '.join(CONTROLS)}, fftNN, fp16-fftNN, "
            "bf16-fftNN (NN from 1 to 99, also with -compact), each also with -seedN (N from 1 on), "
            "NAME@NN (NN from 0), LABEL=FILE.safetensors, LABEL=MODULE:FACTORY, and CHANNEL+MODEL"
        )
    return settings


def _settings(name: str) -> Settings | None:
    """Return the settings of the network called `name`, which has no seed; None for any other name."""
    if match := _NAME.fullmatch(name):
        compression = compression_of(int(match["percent"]))
        return Settings(match["precision"] or "fp32", compression, "compact" if match["compact"] else "paper")
    if name in ("fp32", "fp16", "bf16"):
        return Settings(name)
    return CONTROLS.get(name)


def is_plain(name: str) -> bool:
    """Return whether `name` is the plain name of a network: no label, channel, file or factory.

    A name that ends in `@NN` is as plain as the name before it.
    """
    return _settings(split_seed(split_tested_at(name)[0])[0]) is not None


def facts_of(name: str, *, arch: str, dataset: Dataset) -> Facts:
    """Return the facts of an untrained model called `name`, with as many classes as `dataset` has.

    Raises `UserError` for a name outside the grammar or an unknown architecture. Also raises `UserError` if
    the model does not exist for this architecture.
    """
    settings = settings_of(name)
    if settings.is_narrow and check_arch(arch) not in NARROW_WIDTH:
        raise UserError(f"got {name} for {arch}; legal: {', '.join(NARROW_WIDTH)}")
    _, seed = split_seed(name)
    return Facts(
        arch=check_arch(arch),
        classes=len(dataset.classes),
        precision=settings.precision,
        compression=settings.compression,
        fft_size=settings.fft_size,
        dataset=trained_on(dataset),
        mean=dataset.mean,
        std=dataset.std,
        seed=seed,
        version=__version__,
        low_pass=settings.low_pass,
        width=NARROW_WIDTH[arch] if settings.is_narrow else None,
    )


def check_arch(arch: str) -> str:
    """Return `arch`; raise `UserError` unless `arch` is the name of an architecture."""
    if not isinstance(arch, str) or arch not in ARCHITECTURES:
        raise UserError(f"arch: got {shown(arch)}; legal: {', '.join(ARCHITECTURES)}")
    return arch


def trained_on(dataset: Dataset) -> str:
    """Return the name of the data set whose trained weights are used for images of `dataset`.

    The result is "cifar10" for the bundled sample of cifar10, and for a user's colour images of 32 x 32
    pixels with ten classes that have the names of CIFAR-10 in the same order, or no names
    (`classes_assumed`).
    """
    own = dataset.name.startswith(("folder:", "npz:")) or dataset.name == GIVEN
    named = dataset.classes == CIFAR10_CLASSES or classes_assumed(dataset)
    if own and named and tuple(dataset.images.shape[1:]) == (3, 32, 32):
        return "cifar10"
    if own:
        return re.sub(r"[^A-Za-z0-9]+", "-", dataset.name).strip("-")
    return dataset.name.removesuffix("-sample")


def classes_assumed(dataset: Dataset) -> bool:
    """Return whether `dataset` is a user's archive or arrays with ten classes named "0" to "9".

    If so, its classes are assumed to be those of CIFAR-10, in the same order.
    """
    own = dataset.name.startswith("npz:") or dataset.name == GIVEN
    return own and dataset.classes == tuple(map(str, range(10)))


def file_stem(name: str, *, arch: str, dataset: str) -> str:
    """Return the file name, without its ending, of the checkpoint of the model `name`."""
    return f"{dataset}-{arch}-{name}"
