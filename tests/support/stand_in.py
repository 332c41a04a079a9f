"""Tiny models and data sets that stand in for the real ones."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from blrobust.data.datasets import Dataset
from blrobust.models.card import ModelCard

STD = (0.2, 0.25)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class Network(nn.Module):
    """A small convolution with fixed weights."""

    def __init__(self, *, seed: int, channels: int = 2) -> None:
        super().__init__()
        self.batches: list[int] = []
        source = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, channels, 3, 3, generator=source))

    def forward(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        return nn.functional.conv2d(pixels, self.weight).mean((2, 3)) * 50


def batch_norm(channels: int, *, bias: bool = True, **options: Any) -> nn.BatchNorm2d:
    """torch's layer; the constructor of torch 2.11 has no `bias` yet."""
    norm = nn.BatchNorm2d(channels, **options)
    if not bias:
        norm.register_parameter("bias", None)
    return norm


@dataclass
class Model:
    label: str
    module: nn.Module
    card: ModelCard


def model(label: str, *, seed: int = 0, channels: int = 2) -> Model:
    card = ModelCard(label, f"{seed:064d}")
    return Model(label, Network(seed=seed, channels=channels).eval(), card)


def dataset(n: int = 250, *, channels: int = 2, name: str = "tiny") -> Dataset:
    source = torch.Generator().manual_seed(n)
    shape = (n, channels, 6, 6)
    images = torch.randint(0, 256, shape, generator=source, dtype=torch.uint8)
    cifar = channels == 3
    return Dataset(
        name=name,
        split="test",
        images=images,
        labels=torch.randint(0, 3, (n,), generator=source),
        classes=("a", "b", "c"),
        mean=CIFAR_MEAN if cifar else (0.5,) * channels,
        std=CIFAR_STD if cifar else STD[:channels],
        note=None,
    )
