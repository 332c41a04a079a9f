"""A classifier of pixels: normalisation, then a network, band-limited where asked."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from blconv import band_limit
from blconv.band import FftSize
from blrobust.models.resnet import resnet18, resnet20

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"resnet20": resnet20, "resnet18": resnet18}


class Normalize(nn.Module):
    """(x - mean) / std per channel, for pixels in [0, 1] of shape (batch, channels, H, W)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the normalised images."""
        return (pixels - self.mean) / self.std


class Classifier(nn.Module):
    """Pixels in [0, 1], (batch, channels, H, W) -> logits (batch, classes)."""

    def __init__(self, normalize: Normalize, network: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise, then classify."""
        return cast(Tensor, self.network(self.normalize(pixels)))


def build(
    arch: str,
    *,
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    compression: float = 0.0,
    fft_size: FftSize = "paper",
) -> Classifier:
    """An untrained classifier; `mean` and `std` also say how many channels the images have.

    With `compression` > 0 every convolution but the 1x1 shortcuts is band-limited, as the authors did.
    """
    network = ARCHITECTURES[arch](classes=classes, channels=len(mean))
    if compression:
        network = band_limit(network, compression, fft_size=fft_size)
    return Classifier(Normalize(mean, std), network)
