"""The sizes of one convolution at one input size, and the axes of its transforms and tables.

Axes are tuples of ints for two reasons: `torch.compile` treats a table as a constant only if all its
arguments are plain constants, and every call hashes the axes for the cache of plans.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from blconv.band import AxisBand, Band


class TransformAxis(NamedTuple):
    """One axis of a transform of `size` points: its positions, and the `kept` frequencies.

    Position n is `start + n * step`, for n < `positions`.
    """

    positions: int
    start: int
    step: int
    size: int
    kept: int

    @property
    def is_cut(self) -> bool:
        """Whether any frequency is dropped."""
        return self.kept < self.size // 2 + 1


class DenseAxis(NamedTuple):
    """One axis of the dense form: the filter, the output, and the five numbers of the input's band."""

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
        """The band of the input."""
        return AxisBand(self.length, self.before, self.after, self.size, self.kept)


@dataclass(frozen=True)
class Geometry:
    """Band, filter, stride, dilation and groups; tuples have one entry for each axis (one or two)."""

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
        """1 or 2."""
        return len(self.kernel)

    @property
    def input(self) -> tuple[int, ...]:
        """Input positions along each axis, without padding."""
        return tuple(axis.length for axis in self.band.axes)

    @property
    def out(self) -> tuple[int, ...]:
        """Output positions along each axis; below 1 if the filter is larger than the padded input."""
        return tuple(
            (axis.padded - (taps - 1) * dilation - 1) // stride + 1
            for axis, taps, stride, dilation in zip(
                self.band.axes, self.kernel, self.stride, self.dilation, strict=True
            )
        )

    @property
    def coefficients(self) -> int:
        """Number of complex coefficients that represent a plane: one of each conjugate pair.

        Unlike in `Band`, the rows are one-sided and the columns two-sided; for square maps the number is
        `Band.kept`.
        """
        *columns, rows = reversed(self.band.axes)
        return rows.kept * math.prod([axis.two_sided for axis in columns])

    @property
    def input_axes(self) -> tuple[TransformAxis, ...]:
        """The transform of the input's pixels."""
        return tuple(TransformAxis(a.length, a.before, 1, a.size, a.kept) for a in self.band.axes)

    @property
    def output_axes(self) -> tuple[TransformAxis, ...]:
        """The transform of the output's pixels, of which only every `stride`-th is computed."""
        axes = zip(self.out, self.stride, self.band.axes, strict=True)
        return tuple(TransformAxis(out, 0, stride, axis.size, axis.kept) for out, stride, axis in axes)

    @property
    def filter_axes(self) -> tuple[TransformAxis, ...]:
        """The transform of the filter's taps."""
        axes = zip(self.kernel, self.dilation, self.band.axes, strict=True)
        return tuple(TransformAxis(taps, 0, step, axis.size, axis.kept) for taps, step, axis in axes)

    @property
    def dense_axes(self) -> tuple[DenseAxis, ...]:
        """The axes of the dense form."""
        axes = zip(self.kernel, self.dilation, self.out, self.stride, self.band.axes, strict=True)
        return tuple(
            DenseAxis(taps, step, out, stride, a.length, a.before, a.after, a.size, a.kept)
            for taps, step, out, stride, a in axes
        )
