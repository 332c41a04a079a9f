"""Energy compression: the smallest part of the spectrum with a given share of the energy (paper 4.1)."""

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
    """A compression that depends on the input, in place of a fixed number.

    In training, each layer keeps for each batch the smallest part of the spectrum that holds the share
    `energy`, 0 < energy <= 1, of the input's energy. The energy is summed over batch and channels. Filter and
    gradients use the same part (paper 3.1, 4.1). With the `cut` "coarse", whole rows and columns of the
    spectrum are dropped, so that a low-frequency corner is left. With "fine", the single coefficients of
    least energy are dropped; fewer coefficients are then kept, but the computation is slower (paper 6.2.6).

    In evaluation, the result for an image must not depend on the rest of its batch. So `blconv.calibrate`
    measures a fixed part of the spectrum for each layer. Raises `ValueError` for an illegal energy or cut.
    """

    energy: float
    cut: Cut = "coarse"

    def __post_init__(self) -> None:
        """Check `energy` and `cut`; raise `ValueError` if one is illegal."""
        if not 0 < self.energy <= 1:
            raise ValueError(f"energy must be in (0, 1], got {self.energy!r}")
        if self.cut not in get_args(Cut):
            raise ValueError(f"cut must be 'coarse' or 'fine', got {self.cut!r}")

    def kept(self, power: Tensor) -> tuple[int, ...]:
        """Return the numbers of kept frequencies of the axes for the smallest corner with the share `energy`.

        `power` is a result of `spectral_power`. The corner is the first one of `corners` that holds the share
        `energy` of all energy. The CPU waits for the device.
        """
        total = power
        for axis in range(power.dim()):
            total = total.cumsum(axis)
        shares = [total[tuple(k - 1 for k in corner)] for corner in corners(power.shape)]
        enough = torch.stack(shares) >= self.energy * total.flatten()[-1] * (1 - ROUNDING)
        return list(corners(power.shape))[int(enough.int().argmax())]

    def mask(self, power: Tensor, geometry: Geometry) -> Tensor:
        """Return the mask of the kept coefficients, bool and shaped like `power`.

        `power` is a result of `coefficient_power`. The coefficients with the largest energies are kept until
        together they hold the share `energy`. Coefficients of equal energy, up to rounding, are kept or
        dropped together. A coefficient and its conjugate have equal energy, so the masked spectrum belongs to
        a real signal. The CPU does not wait for the device.
        """
        energies, order = power.flatten().sort(descending=True)
        held = (energies * _conjugate_counts(power, geometry).flatten()[order]).cumsum(0)
        short = held < self.energy * held[-1] * (1 - ROUNDING)
        least = energies.gather(0, short.sum().view(1))
        return power >= least * (1 - ROUNDING)


def corners(halves: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the low-frequency corners of a spectrum, from the smallest one to the whole spectrum.

    A corner is a tuple: the number of kept frequencies of each axis. `halves` has the number of non-negative
    frequencies of each axis, called half here. A corner keeps the lowest ceil(t * half) frequencies of each
    axis, with the same t for all axes, 0 < t <= 1. From one corner to the next, the longest axis gets one
    more frequency.
    """
    longest = max(halves)
    for step in range(1, longest + 1):
        yield tuple(math.ceil(step * half / longest) for half in halves)


def spectral_power(x: Tensor, geometry: Geometry) -> Tensor:
    """Return the energy of x (batch, C, [H,] W) at each absolute frequency, float64 ([half_h,] half_w).

    half_h and half_w are the numbers of non-negative frequencies of the two axes. The energy is summed over
    batch and channels, and over the coefficients that differ only in the signs of their frequencies. By
    Parseval's theorem the sum of the result is the sum of x squared, times the number of points of the
    transform.
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

    The result has the N_h frequencies of both signs of the axis H, and the half_w non-negative frequencies of
    the axis W. The energy is summed over batch and channels. A coefficient and its conjugate have the same
    energy, to the last bit.
    """
    power = _one_sided_power(x, geometry)
    if geometry.dims == 1:
        return power
    mirrored = power.flip(0).roll(1, 0)  # row -u
    return torch.where(_conjugate_counts(power, geometry) == 1, (power + mirrored) / 2, power)


@torch.no_grad()
def _one_sided_power(x: Tensor, geometry: Geometry) -> Tensor:
    """Return |rfftn(x)|^2, summed over batch and channels: float64, one number per one-sided coefficient."""
    axes = geometry.band.axes
    dims = tuple(range(-len(axes), 0))
    # torch 2.14 cannot transform an empty batch on the CPU.
    x = x if x.shape[0] else x.new_zeros(1, *x.shape[1:])
    spectrum = torch.fft.rfftn(x.double(), s=tuple(axis.size for axis in axes), dim=dims)
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()).flatten(0, -len(axes) - 1).sum(0)
    return power


def _conjugate_counts(power: Tensor, geometry: Geometry) -> Tensor:
    """Return the number of coefficients of the whole spectrum for each one-sided coefficient, 1 or 2.

    The number is 1 in column 0 and, if the last axis has an even size, in column size / 2, because these
    columns contain their own conjugates. In all other columns it is 2, for the coefficient and its conjugate.
    The result has the shape of `power`.
    """
    last = geometry.band.axes[-1]
    column = torch.arange(last.half, device=power.device)
    return torch.where((column == 0) | (2 * column == last.size), 1.0, 2.0).expand_as(power)
