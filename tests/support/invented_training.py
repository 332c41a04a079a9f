"""A network of one convolution, invented images, and models in training, for trainings that take a moment."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blrobust.data.datasets import Dataset
from blrobust.models.checkpoint import Facts
from blrobust.training.recipes import Recipe
from blrobust.training.trainee import Trainee

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.4), (0.25, 0.2)
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, crop=1, seed=4)


def tiny(*, classes: int, channels: int, norm: bool = True) -> nn.Sequential:
    """Return the network that the fixtures of the tests call "tiny"."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((3, 1)),
        nn.Flatten(),
        nn.Linear(12, classes),
    )


def invented(n: int = 72, *, split: str = "train", dtype: torch.dtype = torch.uint8) -> Dataset:
    """Return noise whose brightest third, from top to bottom, is the class: a small network learns it."""
    source = torch.Generator().manual_seed(n)
    labels = torch.randint(0, 3, (n,), generator=source)
    images = torch.randint(0, 100, (n, 2, 6, 6), generator=source, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 2 * label : 2 * label + 2] += 100
    if dtype != torch.uint8:
        images = images.to(dtype) / 255
    return Dataset("invented", split, images, labels, ("a", "b", "c"), MEAN, STD)


def facts_of(name: str, *, precision: str = "fp32", arch: str = "tiny") -> Facts:
    """Return the facts of the models "one", an ordinary network, and "two", a band-limited one."""
    return Facts(
        arch=arch,
        classes=3,
        precision=precision,
        compression={"one": 0.0, "two": 0.6}[name],
        fft_size="paper",
        dataset="invented",
        mean=MEAN,
        std=STD,
        seed=0,
    )


def trainees(
    folder: Path,
    recipe: Recipe = RECIPE,
    names: Sequence[str] = ("one", "two"),
    *,
    device: torch.device = CPU,
    **facts: Any,
) -> list[Trainee]:
    """Return models in training that write to `folder`."""
    return [Trainee(name, facts_of(name, **facts), folder, recipe, device) for name in names]


def rows(trainee: Trainee) -> list[dict[str, str]]:
    """Return the stored history without its times."""
    with trainee.history_path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def bits(trainee: Trainee) -> dict[str, Tensor]:
    """Return copies of all tensors that change in training."""
    return {name: tensor.clone() for name, tensor in trainee.state().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two states are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
