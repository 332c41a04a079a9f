"""The card of a model: facts about it, for tables and for the record of a run."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelCard:
    """Facts about a loaded model, stored under these names in run.json."""

    label: str
    sha256: str  # of the checkpoint file, or of repr and weights of a user's own module
    arch: str | None = None
    precision: str = "fp32"  # a user's own module can also have "fp64", "int8", "mixed", ...
    dataset: str | None = None  # the data set of its training, if known
    checkpoint: str | None = None
    test_accuracy: float | None = None
    seed: int | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    note: str | None = None
    channels: tuple[str, ...] = ()  # transforms of the image in front of the network, in order
    tested_at: int | None = None  # band limit in per cent of a model NAME@NN, instead of the training's
    nominal_compression: float = 0.0  # the largest nominal compression of its layers
    effective_compression: float = 0.0
    fft_size: str | None = None  # transform sizes of its layers, such as "128/64/32"
    parameters: int | None = None
