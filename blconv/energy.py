"""Energy compression: the smallest band that keeps a share of the input's spectral energy (paper 4.1)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from blconv.geometry import Geometry


@dataclass(frozen=True)
class EnergyBand:
    """In place of a fixed compression: in training, the band of each batch and layer follows its input.

    The smallest corner of the spectrum that holds the share `energy`, 0 < energy <= 1, of the input's
    energy, summed over batch and channels; the filter uses the same band (paper 3.1, 4.1). In
    evaluation a band must not depend on the batch: `blconv.calibrate` measures fixed ones.
    Raises `ValueError` for another energy.
    """

    energy: float

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.energy <= 1:
            raise ValueError(f"energy must be in (0, 1], got {self.energy!r}")

    def kept(self, power: Tensor) -> tuple[int, ...]:
        """The kept frequencies of each axis for a `power` from `spectral_power`; waits for the device."""
        total = power
        for axis in range(power.dim()):
            total = total.cumsum(axis)
        shares = [total[tuple(k - 1 for k in corner)] for corner in corners(power.shape)]
        enough = torch.stack(shares) >= self.energy * total.flatten()[-1] * (1 - 1e-12)
        return list(corners(power.shape))[int(enough.int().argmax())]


def corners(halves: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Corners of the spectrum from the smallest to the whole: ceil(t half) on each axis, 0 < t <= 1.

    Rectangular maps grow in proportion; the longest axis sets the steps.
    """
    longest = max(halves)
    for step in range(1, longest + 1):
        yield tuple(math.ceil(step * half / longest) for half in halves)


@torch.no_grad()
def spectral_power(x: Tensor, geometry: Geometry) -> Tensor:
    """The energy of x (batch, C, [H,] W) by frequency, float64 (half_h,) half_w: both signs together.

    Summed over batch and channels. By Parseval's theorem its sum is that of x squared, times the
    transform's size: the interior columns of the one-sided spectrum stand for two.
    """
    axes = geometry.band.axes
    dims = tuple(range(-len(axes), 0))
    spectrum = torch.fft.rfftn(x.double(), s=tuple(axis.size for axis in axes), dim=dims)
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()).flatten(0, -len(axes) - 1).sum(0)
    last = torch.arange(axes[-1].half, device=x.device)
    power = power * torch.where((last == 0) | (2 * last == axes[-1].size), 1.0, 2.0)
    if len(axes) == 1:
        return power
    size, half = axes[0].size, axes[0].half
    folded: Tensor = power[:half].clone()
    folded[1 : size - half + 1] += power[half:].flip(0)
    return folded
