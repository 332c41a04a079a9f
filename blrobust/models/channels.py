"""Channels: transforms of the image in front of a network, differentiable for attacks."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from blconv.band import AxisBand, Band
from blconv.methods.lowpass import low_pass
from blrobust.errors import UserError

MOST_SIGMA = 20.0  # pixels
LEAST_SIGMA = 1e-6  # pixels; below about 0.1, a blur is the identity in float32, and much below, NaN


class LowPass(nn.Module):
    """Low-pass filter of an image x: the matrix product A_rows @ x @ A_columns^T.

    The paper calls this filter FC. It keeps the low-frequency corner of the one-sided 2D spectrum;
    `compression`, in [0, 1), is the nominal share of the spectrum that is dropped. The Fourier transform has
    the size of the image, without padding. The result is not clipped and may slightly exceed [0, 1].
    """

    def __init__(self, compression: float) -> None:
        if not 0 <= compression < 1:
            raise UserError(f"got an input low-pass of compression {compression:g}; legal: from 0, below 1")
        super().__init__()
        self.compression = compression

    def extra_repr(self) -> str:
        """Return the compression as text, for `repr` and for the checksum of the model."""
        return f"compression={self.compression!r}"

    def band(self, height: int, width: int) -> Band:
        """Return the band of frequencies that is kept in images of this size."""
        return Band(tuple(self._axis(length) for length in (height, width)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images (m, C, H, W) without their high frequencies."""
        return low_pass(pixels, self.band(*pixels.shape[-2:]))

    def _axis(self, length: int) -> AxisBand:
        return AxisBand.of(
            length,
            1,
            padding=(0, 0),
            dilation=1,
            compression=self.compression,
            fft_size="compact",
        )


class ColourDepth(nn.Module):
    """Clips colour values to [0, 1] and rounds them to 2^bits levels: round(x * (2^bits - 1)) / (2^bits - 1).

    The paper calls this channel CD. Rounding has no useful gradient, so the backward pass treats it as the
    identity, as an adversary who knows about the rounding would (Athalye et al. 2018, BPDA).
    """

    def __init__(self, bits: int) -> None:
        if not 1 <= bits <= 16:
            raise UserError(f"got a colour depth of {bits} bits; legal: 1 to 16")
        super().__init__()
        self.steps = 2**bits - 1

    def extra_repr(self) -> str:
        """Return the number of steps from 0 to 1 as text, for `repr` and for the checksum of the model."""
        return f"steps={self.steps}"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images (m, C, H, W), clipped and rounded."""
        rounded: Tensor = (pixels.detach().clamp(0, 1) * self.steps).round() / self.steps
        if pixels.requires_grad and torch.is_grad_enabled():
            rounded = pixels + (rounded - pixels.detach())
        return rounded


class GaussianBlur(nn.Module):
    """Gaussian blur of standard deviation `sigma` pixels, cut off at 4 * sigma, with reflected edges."""

    def __init__(self, sigma: float) -> None:
        if not LEAST_SIGMA <= sigma <= MOST_SIGMA:
            raise UserError(f"got a blur of sigma {sigma:g} pixels; legal: {LEAST_SIGMA:g} to {MOST_SIGMA:g}")
        super().__init__()
        self.sigma = sigma

    def extra_repr(self) -> str:
        """Return `sigma` as text, for `repr` and for the checksum of the model."""
        return f"sigma={self.sigma!r}"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the blurred images (m, C, H, W).

        Raises `ValueError` if ceil(4 * sigma) is not less than the height and the width.
        """
        reach = math.ceil(4 * self.sigma)
        if reach >= min(pixels.shape[-2:]):
            size = " x ".join(map(str, pixels.shape[-2:]))
            raise ValueError(f"a blur of {self.sigma:g} pixels reaches over images of {size}")
        blurred: Tensor = gaussian_blur(pixels, [2 * reach + 1] * 2, [self.sigma] * 2)
        return blurred


@dataclass(frozen=True)
class Channel:
    """A channel for the recovery of labels: a transform of the image, then a network."""

    name: str
    kind: str  # "low-pass", "colour depth" or "network"
    transform: nn.Module
    network: nn.Module
    effective_compression: float | None = None

    @property
    def whole(self) -> nn.Module:
        """The transform and the network as one model, for an attack on both together."""
        return nn.Sequential(self.transform, self.network).eval()


def low_passes(compressions: list[float], network: nn.Module, *, height: int, width: int) -> list[Channel]:
    """Return channels for the recovery of labels: `network` behind a low-pass, one for each compression.

    `height` and `width` are those of the images.
    """
    made = [LowPass(compression) for compression in compressions]
    return [
        Channel(
            f"low-pass {m.compression:g}",
            "low-pass",
            m,
            network,
            m.band(height, width).effective_compression,
        )
        for m in made
    ]


def colour_depths(bits: list[int], network: nn.Module) -> list[Channel]:
    """Return channels for the recovery of labels: `network` behind a rounding to each number of bits."""
    return [Channel(f"{b} bits", "colour depth", ColourDepth(b), network) for b in bits]
