"""Energy compression: the least of the spectrum that keeps a share of the input's energy (paper 4.1)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from blconv.geometry import Geometry

Cut = Literal["coarse", "fine"]
ROUNDING = 1e-12  # energies of float64 that differ by less, relative to their size, count as equal


@dataclass(frozen=True)
class EnergyBand:
    """In place of a fixed compression: in training, what each batch and layer keeps follows its input.

    The smallest part of the spectrum that holds the share `energy`, 0 < energy <= 1, of the input's
    energy, summed over batch and channels; filter and gradients use the same (paper 3.1, 4.1). `cut`
    says how it is cut out (paper 6.2.6): "coarse" by whole rows and columns, which leaves a corner;
    "fine" coefficient by coefficient, the largest energy first, which keeps the fewest but is slower.
    In evaluation it must not depend on the batch: `blconv.calibrate` measures fixed bands or sets.
    Raises `ValueError` for another energy or cut.
    """

    energy: float
    cut: Cut = "coarse"

    def __post_init__(self) -> None:
        """Check the range and the name."""
        if not 0 < self.energy <= 1:
            raise ValueError(f"energy must be in (0, 1], got {self.energy!r}")
        if self.cut not in get_args(Cut):
            raise ValueError(f"cut must be 'coarse' or 'fine', got {self.cut!r}")

    def kept(self, power: Tensor) -> tuple[int, ...]:
        """The kept frequencies of each axis for a `power` from `spectral_power`; waits for the device."""
        total = power
        for axis in range(power.dim()):
            total = total.cumsum(axis)
        shares = [total[tuple(k - 1 for k in corner)] for corner in corners(power.shape)]
        enough = torch.stack(shares) >= self.energy * total.flatten()[-1] * (1 - ROUNDING)
        return list(corners(power.shape))[int(enough.int().argmax())]

    def mask(self, power: Tensor, geometry: Geometry) -> Tensor:
        """The kept coefficients for a `power` from `coefficient_power`: bool, of its shape.

        From the largest energy down until the share is held. Coefficients of equal energy, but for
        rounding, stay or go together: conjugates are such a pair, so what is kept of a real input is
        real. Does not wait for the device.
        """
        energies, order = power.flatten().sort(descending=True)
        held = (energies * _conjugates(power, geometry).flatten()[order]).cumsum(0)
        short = held < self.energy * held[-1] * (1 - ROUNDING)
        least = energies.gather(0, short.sum().view(1))
        return power >= least * (1 - ROUNDING)


def corners(halves: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Corners of the spectrum from the smallest to the whole: ceil(t half) on each axis, 0 < t <= 1.

    Rectangular maps grow in proportion; the longest axis sets the steps.
    """
    longest = max(halves)
    for step in range(1, longest + 1):
        yield tuple(math.ceil(step * half / longest) for half in halves)


def spectral_power(x: Tensor, geometry: Geometry) -> Tensor:
    """The energy of x (batch, C, [H,] W) by frequency, float64 (half_h,) half_w: both signs together.

    Summed over batch and channels. By Parseval's theorem its sum is that of x squared, times the
    transform's size: the interior columns of the one-sided spectrum stand for two.
    """
    power = _one_sided(x, geometry)
    power = power * _conjugates(power, geometry)
    if geometry.dims == 1:
        return power
    size, half = geometry.band.axes[0].size, geometry.band.axes[0].half
    folded: Tensor = power[:half].clone()
    folded[1 : size - half + 1] += power[half:].flip(0)
    return folded


def coefficient_power(x: Tensor, geometry: Geometry) -> Tensor:
    """The energy of x (batch, C, [H,] W) by coefficient of the one-sided spectrum, float64 (N_h,) half_w.

    Summed over batch and channels. Conjugate coefficients have the same energy to the last bit.
    """
    power = _one_sided(x, geometry)
    if geometry.dims == 1:
        return power
    mirrored = power.flip(0).roll(1, 0)  # row -u
    return torch.where(_conjugates(power, geometry) == 1, (power + mirrored) / 2, power)


@torch.no_grad()
def _one_sided(x: Tensor, geometry: Geometry) -> Tensor:
    """|rfftn(x)|^2 in float64, summed over batch and channels, (N_h,) half_w."""
    axes = geometry.band.axes
    dims = tuple(range(-len(axes), 0))
    x = x if x.shape[0] else x.new_zeros(1, *x.shape[1:])  # torch 2.14 transforms no empty batch on the CPU
    spectrum = torch.fft.rfftn(x.double(), s=tuple(axis.size for axis in axes), dim=dims)
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()).flatten(0, -len(axes) - 1).sum(0)
    return power


def _conjugates(power: Tensor, geometry: Geometry) -> Tensor:
    """How many coefficients of the whole spectrum each of the one-sided stands for, like `power`.

    1 in the columns 0 and, of even sizes, N / 2, where a coefficient's conjugate is in the same
    column; 2 between them.
    """
    last = geometry.band.axes[-1]
    column = torch.arange(last.half, device=power.device)
    return torch.where((column == 0) | (2 * column == last.size), 1.0, 2.0).expand_as(power)
