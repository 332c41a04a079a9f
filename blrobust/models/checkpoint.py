"""Checkpoints: safetensors files with facts about a model as metadata; nothing is unpickled."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from blconv.band import FftSize, check_compression, check_fft_size
from blrobust import atomic_write
from blrobust.data.image_files import MOST_LABELS
from blrobust.errors import UserError
from blrobust.models import ARCHITECTURES, Classifier, build
from blrobust.models.precision import PRECISIONS

FORMAT = "blrobust-1"
MOST_WIDTH = 1024  # a number in a file must not fill the memory


@dataclass(frozen=True)
class Facts:
    """The metadata of a checkpoint: settings to rebuild the model from, its training and its accuracy."""

    arch: str
    classes: int
    precision: str
    compression: float
    fft_size: FftSize
    dataset: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    recipe: dict[str, Any] = field(default_factory=dict)
    test_accuracy: float | None = None  # share of the test images, on the stored weights
    holdout_accuracy: float | None = None  # share of the training images that were held out
    version: str = ""
    low_pass: float = 0.0  # nominal compression of the image in front of the network
    width: int | None = None  # channels of the first stage, None for the architecture's own

    def __post_init__(self) -> None:
        """Raise `ValueError` if a value is not legal."""
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"arch {self.arch!r} is not one of {', '.join(ARCHITECTURES)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if not (isinstance(self.classes, int) and 0 < self.classes <= MOST_LABELS):
            raise ValueError(f"classes must be an int from 1 to {MOST_LABELS}, got {self.classes!r}")
        if not isinstance(self.dataset, str):
            raise ValueError(f"dataset must be a name, got {self.dataset!r}")
        finite = all(math.isfinite(number) for number in (*self.mean, *self.std))
        if not (finite and self.std and len(self.mean) == len(self.std) and min(self.std) > 0):
            raise ValueError(f"mean {self.mean}, std {self.std}: wanted numbers, one a channel, std above 0")
        for accuracy in (self.test_accuracy, self.holdout_accuracy):
            if accuracy is not None and not 0 <= accuracy <= 1:
                raise ValueError(f"accuracies must be in [0, 1], got {accuracy!r}")
        if self.width is not None and not (isinstance(self.width, int) and 0 < self.width <= MOST_WIDTH):
            raise ValueError(f"width must be an int from 1 to {MOST_WIDTH}, got {self.width!r}")
        check_compression(self.compression)
        check_compression(self.low_pass)
        check_fft_size(self.fft_size)
        json.dumps([self.recipe, self.seed], allow_nan=False)  # run.json takes them up, and has no NaN

    def build(self) -> Classifier:
        """Return the model with these settings and untrained weights."""
        return build(
            self.arch,
            classes=self.classes,
            mean=self.mean,
            std=self.std,
            compression=self.compression,
            fft_size=self.fft_size,
            low_pass=self.low_pass,
            width=self.width,
        )


def save(path: Path, tensors: dict[str, Tensor], facts: Facts) -> None:
    """Write tensors and facts to the file `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "facts": json.dumps(asdict(facts), sort_keys=True)}
    stored = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    atomic_write.write_bytes(path, to_bytes(stored, metadata))


def load(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """Return the tensors (on the CPU) and the facts of a checkpoint.

    Raises `UserError` for a file that is missing, damaged, or not written by this program.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"checkpoint {path} is not a readable safetensors file: {error}") from None
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "none")
        raise UserError(
            f"checkpoint {path} was not written by blrobust (format {found!r}, wanted {FORMAT!r})"
        )
    try:
        facts = json.loads(metadata["facts"])
        facts = {f.name: facts[f.name] for f in fields(Facts) if f.name in facts}
        facts |= {name: tuple(facts[name]) for name in ("mean", "std")}
        return tensors, Facts(**facts)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint {path} has unusable metadata: {error}") from None


def load_model(path: Path) -> tuple[Classifier, Facts]:
    """Return the trained model of a checkpoint in fp32 on the CPU, in evaluation mode, and its facts.

    Raises `UserError` as `load` does. Also raises `UserError` if the weights do not fit the architecture.
    """
    tensors, facts = load(path)
    model = facts.build()
    wanted = stored_state(model)
    for name in sorted(wanted.keys() | tensors.keys()):
        have = tuple(tensors[name].shape) if name in tensors else "nothing"
        want = tuple(wanted[name].shape) if name in wanted else "nothing"
        if have != want:
            raise UserError(f"checkpoint {path} does not fit {facts.arch}: {name} is {have}, wanted {want}")
    model.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=False)
    return model.eval(), facts


def stored_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a finished checkpoint: parameters in fp16, BatchNorm's buffers in fp32."""
    state = {name: p.detach().half() for name, p in model.named_parameters()}
    buffers = {name: b for name, b in model.state_dict().items() if name not in state}
    return state | {n: b.float() for n, b in buffers.items() if not n.endswith("num_batches_tracked")}
