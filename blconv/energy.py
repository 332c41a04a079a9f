"""Energy compression: the smallest part of the spectrum that holds a share of the energy (paper 4.1)."""

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
    """A compression that depends on the input, for use in place of a fixed one.

    In training, each layer keeps for each batch the smallest part of the spectrum that holds the share
    `energy`, 0 < energy <= 1, of the input's energy, summed over batch and channels. Filter and gradients
    use the same part (paper 3.1, 4.1). `cut` "coarse" drops whole rows and columns, which leaves a corner;
    "fine" drops single coefficients, those of least energy, which keeps fewer but is slower (paper 6.2.6).
    A result in evaluation must not depend on the batch: `blconv.calibrate` measures fixed bands or sets.
    Raises `ValueError` for an illegal energy or cut.
    """

    energy: float
    cut: Cut = "coarse"

    def __post_init__(self) -> None:
        """Check `energy` and `cut`."""
        if not 0 < self.energy <= 1:
            raise ValueError(f"energy must be in (0, 1], got {self.energy!r}")
        if self.cut not in get_args(Cut):
            raise ValueError(f"cut must be 'coarse' or 'fine', got {self.cut!r}")

    def kept(self, power: Tensor) -> tuple[int, ...]:
        """Return the kept frequencies of each axis, given `spectral_power`; synchronises the device."""
        total = power
        for axis in range(power.dim()):
            total = total.cumsum(axis)
        shares = [total[tuple(k - 1 for k in corner)] for corner in corners(power.shape)]
        enough = torch.stack(shares) >= self.energy * total.flatten()[-1] * (1 - ROUNDING)
        return list(corners(power.shape))[int(enough.int().argmax())]

    def mask(self, power: Tensor, geometry: Geometry) -> Tensor:
        """Return the mask of the kept coefficients, given `coefficient_power`: bool, of its shape.

        The coefficients with the largest energies are kept until they hold the share. Coefficients of equal
        energy, up to rounding, are kept or dropped together. This includes conjugates, so the result is real.
        Does not synchronise the device.
        """
        energies, order = power.flatten().sort(descending=True)
        held = (energies * _conjugate_counts(power, geometry).flatten()[order]).cumsum(0)
        short = held < self.energy * held[-1] * (1 - ROUNDING)
        least = energies.gather(0, short.sum().view(1))
        return power >= least * (1 - ROUNDING)


def corners(halves: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield low-frequency corners of the spectrum, from small to all: ceil(t half) on each axis, 0 < t <= 1.

    On rectangular maps a corner grows in proportion to the sides, by one on the longest axis at a time.
    """
    longest = max(halves)
    for step in range(1, longest + 1):
        yield tuple(math.ceil(step * half / longest) for half in halves)


def spectral_power(x: Tensor, geometry: Geometry) -> Tensor:
    """Return the energy of x (batch, C, [H,] W) at each |frequency|, float64 ([half_h,] half_w).

    Summed over batch and channels. By Parseval's theorem the sum of the result is the sum of x squared,
    times the transform's size: an interior column of the one-sided spectrum counts twice.
    """
    power = _one_sided_power(x, geometry)
    power = power * _conjugate_counts(power, geometry)
    if geometry.dims == 1:
        return power
    size, half = geometry.band.axes[0].size, geometry.band.axes[0].half
    folded: Tensor = power[:half].clone()
    folded[1 : size - half + 1] += power[half:].flip(0)
    return folded


def coefficient_power(x: Tensor, geometry: Geometry) -> Tensor:
    """Return the energy of x (batch, C, [H,] W) in each one-sided coefficient, float64 ([N_h,] half_w).

    Summed over batch and channels. Conjugate coefficients have the same energy to the last bit.
    """
    power = _one_sided_power(x, geometry)
    if geometry.dims == 1:
        return power
    mirrored = power.flip(0).roll(1, 0)  # row -u
    return torch.where(_conjugate_counts(power, geometry) == 1, (power + mirrored) / 2, power)


@torch.no_grad()
def _one_sided_power(x: Tensor, geometry: Geometry) -> Tensor:
    """Return |rfftn(x)|^2 in float64, summed over batch and channels, ([N_h,] half_w)."""
    axes = geometry.band.axes
    dims = tuple(range(-len(axes), 0))
    x = x if x.shape[0] else x.new_zeros(1, *x.shape[1:])  # torch 2.14 transforms no empty batch on the CPU
    spectrum = torch.fft.rfftn(x.double(), s=tuple(axis.size for axis in axes), dim=dims)
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()).flatten(0, -len(axes) - 1).sum(0)
    return power


def _conjugate_counts(power: Tensor, geometry: Geometry) -> Tensor:
    """Return how often each one-sided coefficient occurs in the whole spectrum, with its conjugate.

    Once in column 0 and, for even sizes, in column N / 2, which hold their own conjugates; twice in the
    columns between them. Shaped like `power`.
    """
    last = geometry.band.axes[-1]
    column = torch.arange(last.half, device=power.device)
    return torch.where((column == 0) | (2 * column == last.size), 1.0, 2.0).expand_as(power)
