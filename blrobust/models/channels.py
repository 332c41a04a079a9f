"""Input channels: what an image passes through on its way to the network, and what that may repair."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blconv.band import AxisBand, Band
from blconv.methods.lowpass import low_pass
from blrobust.errors import UserError


class LowPass(nn.Module):
    """Keep the low corner of the image's one-sided 2D spectrum (the paper's FC): A_rows x A_columns^T.

    The transform has the image's own size, nothing is padded, and the result is not clipped: it may
    go beyond [0, 1] a little. ``compression`` is the nominal share that is dropped, in [0, 1).
    """

    def __init__(self, compression: float) -> None:
        if not 0 <= compression < 1:
            raise UserError(f"compression {compression:g} of an input low-pass must be in [0, 1)")
        super().__init__()
        self.compression = compression

    def band(self, height: int, width: int) -> Band:
        """The band of images of this size."""
        return Band(tuple(self._axis(length) for length in (height, width)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Images (m, C, H, W) without their high frequencies."""
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
    """Round every value to one of 2^bits levels between 0 and 1 (CD): round(x (2^bits - 1)) / (2^bits - 1).

    Rounding has no gradient, so the backward pass takes it for the identity: an adversary who knows
    of the rounding would do so too (Athalye et al. 2018, BPDA).
    """

    def __init__(self, bits: int) -> None:
        if not 1 <= bits <= 16:
            raise UserError(f"colour depth {bits} must be from 1 to 16 bits")
        super().__init__()
        self.steps = 2**bits - 1

    def forward(self, pixels: Tensor) -> Tensor:
        """Images (m, C, H, W), rounded."""
        rounded: Tensor = (pixels.detach().clamp(0, 1) * self.steps).round() / self.steps
        if pixels.requires_grad and torch.is_grad_enabled():
            rounded = pixels + (rounded - pixels.detach())
        return rounded


@dataclass(frozen=True)
class Channel:
    """One way to the answer: a transform of the image, then a network."""

    name: str
    kind: str  # "low-pass", "colour depth" or "network"
    transform: nn.Module
    network: nn.Module
    effective_compression: float | None = None

    @property
    def whole(self) -> nn.Module:
        """Transform and network as one model, as an adversary who knows sees it."""
        return nn.Sequential(self.transform, self.network).eval()


def low_passes(compressions: list[float], network: nn.Module, *, height: int, width: int) -> list[Channel]:
    """One low-pass in front of ``network`` for each compression."""
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
    """One rounding in front of ``network`` for each number of bits."""
    return [Channel(f"{b} bits", "colour depth", ColourDepth(b), network) for b in bits]
