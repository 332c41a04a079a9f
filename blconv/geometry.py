"""The sizes of one convolution at one input size: what every method is given."""

import math
from dataclasses import dataclass
from functools import cached_property

from blconv.band import Band


@dataclass(frozen=True)
class Geometry:
    """Band, filter, stride, dilation and groups; tuples have an entry each axis (one or two)."""

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
        """Output positions along each axis; below 1 where the filter does not fit the input."""
        return tuple(
            (axis.padded - (taps - 1) * dilation - 1) // stride + 1
            for axis, taps, stride, dilation in zip(
                self.band.axes, self.kernel, self.stride, self.dilation, strict=True
            )
        )

    @property
    def coefficients(self) -> int:
        """Complex coefficients that stand for a plane: one of each conjugate pair.

        The rows are one-sided here and the columns two-sided; the number is that of `Band.kept` for
        square maps.
        """
        *columns, rows = reversed(self.band.axes)
        return rows.kept * math.prod([axis.two_sided for axis in columns])
