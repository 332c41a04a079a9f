"""The sizes of a convolution for one input size, and the axes of its transforms and constant matrices.

An axis is a tuple of ints, for two reasons. `torch.compile` treats a constant matrix (`blconv.tables`) as a
constant only if all arguments of the function that builds it are plain constants. And every call of a layer
hashes the axes to look up its kernels and their arguments in a cache (`blconv.kernels.launches`).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from blconv.band import AxisBand, Band


class TransformAxis(NamedTuple):
    """One axis of a Fourier transform of `size` points that reads or computes only some of its points.

    These points, called positions, are `start + n * step` for n = 0 .. `positions` - 1. The transform uses
    only the frequencies f with |f| < `kept`. A forward transform takes all points other than the positions as
    zero; an inverse transform does not compute them.
    """

    positions: int
    start: int
    step: int
    size: int
    kept: int

    @property
    def is_cut(self) -> bool:
        """Whether at least one frequency is dropped."""
        return self.kept < self.size // 2 + 1


class DenseAxis(NamedTuple):
    """One axis of a convolution for the method "dense", which multiplies all pixels by one matrix.

    `taps` is the number of taps of the filter and `dilation` the distance between taps; `out` is the number
    of output positions and `stride` the distance between them. The other five numbers are the fields of the
    input's `AxisBand`.
    """

    taps: int
    dilation: int
    out: int
    stride: int
    length: int
    before: int
    after: int
    size: int
    kept: int

    @property
    def band(self) -> AxisBand:
        """The sizes of the input on this axis, with the number of kept frequencies."""
        return AxisBand(self.length, self.before, self.after, self.size, self.kept)


@dataclass(frozen=True)
class Geometry:
    """The sizes of a convolution for one input size: band, filter, stride, dilation and groups.

    `kernel`, `stride` and `dilation` have one entry for each axis, in the order (H, W), or (W,) in 1D.
    """

    band: Band
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def __hash__(self) -> int:
        return self._hash  # every call of a layer looks up several caches with it

    @cached_property
    def _hash(self) -> int:
        return hash((self.band, self.kernel, self.stride, self.dilation, self.groups))

    @property
    def dims(self) -> int:
        """Number of spatial dimensions, 1 or 2."""
        return len(self.kernel)

    @property
    def input(self) -> tuple[int, ...]:
        """Number of input positions along each axis, without padding."""
        return tuple(axis.length for axis in self.band.axes)

    @property
    def out(self) -> tuple[int, ...]:
        """Number of output positions on each axis; below 1 if the filter is larger than the padded input."""
        return tuple(
            (axis.padded - (taps - 1) * dilation - 1) // stride + 1
            for axis, taps, stride, dilation in zip(
                self.band.axes, self.kernel, self.stride, self.dilation, strict=True
            )
        )

    @property
    def coefficients(self) -> int:
        """Number of complex coefficients that the method "spectral" keeps of one channel of one image.

        The number counts kept coefficients with a non-negative frequency on the rows' axis; the others are
        conjugates of these. (`Band.kept` counts coefficients with a non-negative frequency on the columns'
        axis instead. For a square map the two numbers are equal.) The CUDA kernels never store both a
        coefficient and its conjugate, so they store slightly fewer coefficients
        (`blconv.kernels.transforms.fragments.coefficient_count`).
        """
        *columns, rows = reversed(self.band.axes)
        return rows.kept * math.prod([axis.two_sided for axis in columns])

    @property
    def input_axes(self) -> tuple[TransformAxis, ...]:
        """The transform axes of the input, whose pixels begin after the padding."""
        return tuple(TransformAxis(a.length, a.before, 1, a.size, a.kept) for a in self.band.axes)

    @property
    def output_axes(self) -> tuple[TransformAxis, ...]:
        """The transform axes of the output, of which only every `stride`-th point is computed."""
        axes = zip(self.out, self.stride, self.band.axes, strict=True)
        return tuple(TransformAxis(out, 0, stride, axis.size, axis.kept) for out, stride, axis in axes)

    @property
    def filter_axes(self) -> tuple[TransformAxis, ...]:
        """The transform axes of the filter, whose taps are `dilation` points apart."""
        axes = zip(self.kernel, self.dilation, self.band.axes, strict=True)
        return tuple(TransformAxis(taps, 0, step, axis.size, axis.kept) for taps, step, axis in axes)

    @property
    def dense_axes(self) -> tuple[DenseAxis, ...]:
        """The axes for the method "dense"."""
        axes = zip(self.kernel, self.dilation, self.out, self.stride, self.band.axes, strict=True)
        return tuple(
            DenseAxis(taps, step, out, stride, a.length, a.before, a.after, a.size, a.kept)
            for taps, step, out, stride, a in axes
        )
