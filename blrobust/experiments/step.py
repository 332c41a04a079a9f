"""A step of an experiment: one measurement in a run folder, or the training of models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from blrobust.models.model_names import split_seed, split_tested_at

Stage = Literal["train", "noise", "attacks", "mismatch", "report"]
STAGES = get_args(Stage)


@dataclass(frozen=True)
class Step:
    """One measurement: the run in the sub-folder `name`, or, in the stage "train", a training."""

    name: str
    stage: Stage
    shows: str  # the figure, table or section of the paper, or what the measurement is for
    models: tuple[str, ...]
    images: int
    passes: float  # per image and model, in forward passes; a backward pass counts as two
    function: Literal["evaluate", "recover", "train"] = "evaluate"
    options: Mapping[str, Any] = field(default_factory=dict)  # further arguments of the function

    def line(self) -> str:
        """Return the size of the step as text, such as "uniform (Fig. 28): 3 models, 200 images"."""
        models = ", ".join(self.models) if len(self.models) <= 4 else f"{len(self.models)} models"
        return f"{self.name} ({self.shows}): {models}, {self.images:,} images"


def base_of(name: str) -> str:
    """Return a model name without channels, band limit of the test and training seed.

    It is "fp32" for "blur1+fp32-seed1@50".
    """
    return split_seed(split_tested_at(name.rpartition("+")[2])[0])[0]


def seed_of(name: str) -> int:
    """Return the training seed in a model name, which may have channels and a band limit of the test."""
    return split_seed(split_tested_at(name)[0])[1]


def models_of(steps: Iterable[Step]) -> list[str]:
    """Return the trained models of all steps, without channels and band limits of the test, each once."""
    names = (split_tested_at(name.rpartition("+")[2])[0] for step in steps for name in step.models)
    return list(dict.fromkeys(names))
