"""The configuration of a run, with one class for each command; its hash identifies the measurement.

Every configuration defines the cells of its run: one for each subject, level and draw. A subject is a model
or, in a recovery, the attacked model or a channel. A draw is a repetition with other random numbers. Every
configuration has the properties `subjects` and `grids`, the levels of each kind of perturbation.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, to_builtins

from blrobust.runs.frequencies import CLEAN, distinct, wave_kind

MOST_DRAWS = 10_000  # so that a typing error does not fill the memory with a list of cells
MOST_SIZE = 1000  # the most frequencies along an axis of a heat map; more waves would need over 10 TB

Scalar = bool | int | float | str | None
Text = Annotated[str, Meta(min_length=1)]
MOST = 2**31
Count = Annotated[int, Meta(ge=1, le=MOST)]
Levels = Annotated[list[float], Meta(min_length=1)]


class ModelIdentity(Struct, frozen=True, forbid_unknown_fields=True):
    """The identity of a model: its label, and the SHA-256 of its checkpoint file or of a user's module."""

    label: str
    sha256: str

    def __post_init__(self) -> None:
        check_label(self.label)


class DatasetIdentity(Struct, frozen=True, forbid_unknown_fields=True):
    """The identity of the images: name of the data set, checksum of the images, and their number `n`."""

    name: str
    checksum: str
    n: Count


class Grid(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The levels of one kind of noise, and the revision (version number) of the kind's computation.

    Raises `ValueError` unless the levels are finite and ascending.
    """

    levels: Levels
    revision: Count = 1

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.levels)):
            raise ValueError("levels must be finite")
        if any(low >= high for low, high in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError("levels must be ascending")


class AttackGrid(Grid, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The levels (strengths) of one attack, the revision of its computation, and its parameters by name."""

    parameters: dict[str, Scalar]


class Channel(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A channel of a recovery: its kind ("low-pass", "colour depth" or "network") and its name.

    `effective_compression` is the share of Fourier coefficients that the low-pass or the network drops. It is
    None for a colour depth.
    """

    kind: Text
    name: Text
    effective_compression: float | None


class Base(Struct, frozen=True, kw_only=True, tag_field="command", forbid_unknown_fields=True):
    """The part that the configurations of all commands have in common.

    `version` is that of blrobust, and `arch` is the architecture of the bundled models. Raises `ValueError`
    if two models have the same label.
    """

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
        """The name of the command that makes such a run: "noise", "attack", "heatmap" or "recover"."""
        return str(self.__struct_config__.tag)

    @property
    def subjects(self) -> list[str]:
        """The labels of the subjects (here the models), as in the column `model` of the stored cells."""
        return [model.label for model in self.models]

    def encode(self) -> dict[str, Any]:
        """Return the configuration as a JSON dict."""
        plain: dict[str, Any] = to_builtins(self)
        return plain


class Sweep(Base, frozen=True, kw_only=True):
    """The configuration of a sweep over the levels of noise or attacks."""

    space: Literal["normalized", "pixel", "legacy"]
    draws: Annotated[int, Meta(ge=1, le=MOST_DRAWS)]
    block: Count  # images per block (batch)
    kinds: Annotated[Mapping[str, Grid], Meta(min_length=1)]

    @property
    def grids(self) -> dict[str, list[float]]:
        """The levels of each kind of noise or attack, ascending."""
        return {kind: grid.levels for kind, grid in self.kinds.items()}

    @property
    def summary(self) -> str:
        """The kinds of noise or attack and the input space as text, such as "gaussian (normalized)"."""
        return f"{', '.join(self.kinds)} ({self.space})"

    @property
    def origin(self) -> str | None:
        """The label of the model on which the inputs for all models are crafted, if there is one."""
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
        """The label of the model on which the inputs for all models are crafted, if there is one."""
        return None if self.source is None else self.source.label


class Heatmap(Base, frozen=True, kw_only=True, tag="heatmap"):
    """The configuration of `blrobust heatmap`: a map of `size` x `size` frequencies.

    `norm` is the L2 norm of the wave that is added to each colour channel, in pixel units. `shape` is that of
    an image, (C, H, W). Raises `ValueError` if `size` exceeds the height or the width.
    """

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
        """The only level of each kind, as a list: `norm` for every wave, and 0 for the clean images."""
        _, height, width = self.shape
        waves = distinct(self.size, height=height, width=width)
        return {CLEAN: [0.0]} | {wave_kind(wave): [self.norm] for wave in waves}

    @property
    def summary(self) -> str:
        """The size of the map as text, such as "31 x 31 frequencies"."""
        return f"{self.size} x {self.size} frequencies"


class Recover(Base, frozen=True, kw_only=True, omit_defaults=True, tag="recover"):
    """The configuration of `blrobust recover`; `source` is the label of the attacked model.

    `kinds` maps the name of each attack to its strength, or to None if the attack searches for the smallest
    perturbation. `revisions` has the revision (version number) of each attack's computation that is not 1.

    Raises `ValueError` if a name occurs twice among the source and the channels, or if the source or a
    channel of the kind "network" is not one of the models.
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
        """The label of the source model, on which adversarial inputs are found, and the channels' names."""
        return [self.source, *(channel.name for channel in self.channels)]

    @property
    def grids(self) -> dict[str, list[float]]:
        """The only level of each attack, as a list: strength, or infinity for the smallest perturbation."""
        return {kind: [math.inf if level is None else level] for kind, level in self.kinds.items()}

    @property
    def summary(self) -> str:
        """The attacks and the attacked model as text, such as "deepfool-l2 on fp32"."""
        return f"{', '.join(self.kinds)} on {self.source}"


Configuration = Noise | Attack | Heatmap | Recover


def check_label(label: str) -> None:
    """Raise `ValueError` for a label of a model that is empty, only spaces, or not printable."""
    if not label.strip() or not label.isprintable():
        raise ValueError(f"got the label {label!r}; legal: printable text")


def _check_different(name: str, labels: list[str]) -> None:
    if len(set(labels)) < len(labels):
        raise ValueError(f"{name} must have different names")
