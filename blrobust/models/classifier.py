"""A classifier of pixels: an optional low-pass of the image, normalisation, then a network."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from blconv import band_limit
from blconv.band import FftSize
from blrobust.models.channels import LowPass
from blrobust.models.resnet import resnet18, resnet20

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"resnet20": resnet20, "resnet18": resnet18}


class Normalize(nn.Module):
    """Computes (x - mean) / std per channel, for pixels x in [0, 1] of shape (batch, channels, H, W)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the normalised images (batch, channels, H, W)."""
        return (pixels - self.mean) / self.std


class Classifier(nn.Module):
    """A model that computes logits (batch, classes) from pixels in [0, 1], (batch, channels, H, W)."""

    def __init__(self, normalize: Normalize, network: nn.Module, low_pass: LowPass | None = None) -> None:
        super().__init__()
        self.low_pass = low_pass
        self.normalize = normalize
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits (batch, classes) of pixels (batch, C, H, W)."""
        if self.low_pass is not None:
            pixels = self.low_pass(pixels)
        return cast(Tensor, self.network(self.normalize(pixels)))


def build(
    arch: str,
    *,
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    compression: float = 0.0,
    fft_size: FftSize = "paper",
    low_pass: float = 0.0,
    width: int | None = None,
) -> Classifier:
    """Return an untrained classifier; the number of image channels is the length of `mean` and `std`.

    With `compression` > 0 all convolutions except the 1x1 shortcuts are band-limited, as in the paper.
    `low_pass` is the nominal compression of a low-pass filter in front of the network; 0 means no filter.
    `width` is the number of channels of the first stage; None means the number of the architecture.
    """
    narrow = {} if width is None else {"width": width}
    network = ARCHITECTURES[arch](classes=classes, channels=len(mean), **narrow)
    if compression:
        network = band_limit(network, compression, fft_size=fft_size)
    return Classifier(Normalize(mean, std), network, LowPass(low_pass) if low_pass else None)
