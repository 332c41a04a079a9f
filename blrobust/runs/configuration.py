"""The configuration of a run, a class for each command; its hash identifies the measurement.

Every configuration defines the cells of its run: `subjects` x levels of `grids` x `draws`. A subject is a
model, or in a recovery a channel with the network behind it.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, to_builtins

from blrobust.runs.frequencies import CLEAN, distinct, wave_kind

MOST_DRAWS = 10_000  # a typing error must not fill the memory with a list of cells
MOST_SIZE = 1000  # of a heat map: the waves of a larger one fit into no memory

Scalar = bool | int | float | str | None
Text = Annotated[str, Meta(min_length=1)]
MOST = 2**31
Count = Annotated[int, Meta(ge=1, le=MOST)]
Levels = Annotated[list[float], Meta(min_length=1)]


class ModelIdentity(Struct, frozen=True, forbid_unknown_fields=True):
    """A model: its label, and the checksum of its weights."""

    label: str
    sha256: str

    def __post_init__(self) -> None:
        check_label(self.label)


class DatasetIdentity(Struct, frozen=True, forbid_unknown_fields=True):
    """The images: name of the data set, checksum and number."""

    name: str
    checksum: str
    n: Count


class Grid(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The levels of a kind of noise, ascending, and the revision of its computation."""

    levels: Levels
    revision: Count = 1

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.levels)):
            raise ValueError("levels must be finite")
        if any(low >= high for low, high in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError("levels must be ascending")


class AttackGrid(Grid, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The strengths of an attack, and its parameters."""

    parameters: dict[str, Scalar]


class Channel(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A channel of a recovery: its kind, its name, and the share of coefficients that it drops."""

    kind: Text
    name: Text
    effective_compression: float | None


class Base(Struct, frozen=True, kw_only=True, tag_field="command", forbid_unknown_fields=True):
    """The part that all configurations have."""

    version: str
    seed: Annotated[int, Meta(ge=0, lt=2**32)]
    arch: str
    models: Annotated[list[ModelIdentity], Meta(min_length=1)]
    dataset: DatasetIdentity
    device: str

    def __post_init__(self) -> None:
        _check_different("models", [model.label for model in self.models])

    @property
    def command(self) -> str:
        """The command that measures such a run."""
        return str(self.__struct_config__.tag)

    @property
    def subjects(self) -> list[str]:
        """Labels in the column `model` of the cells."""
        return [model.label for model in self.models]

    def encode(self) -> dict[str, Any]:
        """Return the configuration as plain JSON."""
        plain: dict[str, Any] = to_builtins(self)
        return plain


class Sweep(Base, frozen=True, kw_only=True):
    """The configuration of a sweep over the levels of noise or attacks."""

    space: Literal["normalized", "pixel", "legacy"]
    draws: Annotated[int, Meta(ge=1, le=MOST_DRAWS)]
    block: Count  # images per block of random numbers
    kinds: Annotated[Mapping[str, Grid], Meta(min_length=1)]

    @property
    def grids(self) -> dict[str, list[float]]:
        """Levels by kind."""
        return {kind: grid.levels for kind, grid in self.kinds.items()}

    @property
    def summary(self) -> str:
        """The perturbations in a few words."""
        return f"{', '.join(self.kinds)} ({self.space})"

    @property
    def origin(self) -> str | None:
        """Label of the model on which the attacks run, if it is not the attacked model."""
        return None


class Noise(Sweep, frozen=True, kw_only=True, tag="noise"):
    """The configuration of `blrobust noise`."""


class Attack(Sweep, frozen=True, kw_only=True, tag="attack"):
    """The configuration of `blrobust attack`."""

    kinds: Annotated[Mapping[str, AttackGrid], Meta(min_length=1)]
    source: ModelIdentity | None
    target: Annotated[int, Meta(ge=0)] | None

    @property
    def origin(self) -> str | None:
        """Label of the model on which the attacks run, if it is not the attacked model."""
        return None if self.source is None else self.source.label


class Heatmap(Base, frozen=True, kw_only=True, tag="heatmap"):
    """The configuration of `blrobust heatmap`; `shape` is that of an image, (C, H, W)."""

    draws: ClassVar[int] = 1

    size: Annotated[int, Meta(ge=1, le=MOST_SIZE)]
    norm: Annotated[float, Meta(ge=0)]
    shape: tuple[Count, Count, Count]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size > min(self.shape[1:]):
            raise ValueError(f"size must be at most {min(self.shape[1:])}, that of the images")

    @property
    def grids(self) -> dict[str, list[float]]:
        """Levels by kind: the norm for every wave, and 0 for the clean images."""
        _, height, width = self.shape
        waves = distinct(self.size, height=height, width=width)
        return {CLEAN: [0.0]} | {wave_kind(wave): [self.norm] for wave in waves}

    @property
    def summary(self) -> str:
        """The perturbations in a few words."""
        return f"{self.size} x {self.size} frequencies"


class Recover(Base, frozen=True, kw_only=True, omit_defaults=True, tag="recover"):
    """The configuration of `blrobust recover`.

    `kinds` has the strength of each attack, `None` where it searches for the smallest perturbation.
    """

    draws: ClassVar[int] = 1

    source: Text
    kinds: Annotated[dict[str, float | None], Meta(min_length=1)]
    channels: Annotated[list[Channel], Meta(min_length=1)]
    revisions: dict[str, Count] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_different("source and channels", self.subjects)
        labels = [model.label for model in self.models]
        networks = [channel.name for channel in self.channels if channel.kind == "network"]
        if unknown := {self.source, *networks} - set(labels):
            raise ValueError(f"got {sorted(unknown)[0]!r}, which is not one of the models")

    @property
    def subjects(self) -> list[str]:
        """The source, where the inputs are found, and the channels."""
        return [self.source, *(channel.name for channel in self.channels)]

    @property
    def grids(self) -> dict[str, list[float]]:
        """Levels by kind; infinity for the smallest perturbation."""
        return {kind: [math.inf if level is None else level] for kind, level in self.kinds.items()}

    @property
    def summary(self) -> str:
        """The perturbations in a few words."""
        return f"{', '.join(self.kinds)} on {self.source}"


Configuration = Noise | Attack | Heatmap | Recover


def check_label(label: str) -> None:
    """Raise `ValueError` for a label that is empty or not printable."""
    if not label.strip() or not label.isprintable():
        raise ValueError(f"got the label {label!r}; legal: printable text")


def _check_different(name: str, labels: list[str]) -> None:
    if len(set(labels)) < len(labels):
        raise ValueError(f"{name} must have different names")
