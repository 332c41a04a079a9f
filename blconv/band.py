"""The band of a convolution: the low frequencies that are kept on each axis of its spectrum.

The number of kept frequencies follows from the size of the input, the size of the filter and the compression.
"""

import math
from dataclasses import dataclass
from operator import index
from typing import Literal, NamedTuple

FftSize = Literal["paper", "compact"] | int


class AxisBand(NamedTuple):
    """One axis of a band: it keeps the lowest `kept` of the `half` frequencies of its `size`-point transform.

    `length` is the number of input positions without padding; `before` and `after` are the numbers of zeros
    that the padding adds at both ends. The class is a tuple because every call of a layer hashes it for the
    keys of several caches.
    """

    length: int
    before: int
    after: int
    size: int
    kept: int

    @property
    def padded(self) -> int:
        """Number of input positions, padding included."""
        return self.before + self.length + self.after

    @property
    def half(self) -> int:
        """Number of non-negative frequencies, `size // 2 + 1`."""
        return self.size // 2 + 1

    @property
    def is_cut(self) -> bool:
        """Whether at least one frequency of this axis is dropped."""
        return self.kept <= self.size // 2

    @property
    def two_sided(self) -> int:
        """Number of kept frequencies of both signs: `2 * kept - 1`, or `size` if no frequency is dropped."""
        return 2 * self.kept - 1 if self.is_cut else self.size

    @classmethod
    def of(
        cls,
        length: int,
        kernel: int,
        *,
        padding: tuple[int, int],
        dilation: int,
        compression: float,
        fft_size: FftSize,
        dims: Literal[1, 2] = 2,
    ) -> "AxisBand":
        """Return the band of an axis with `length` input positions, for a filter of `kernel` taps.

        `padding` has the numbers of zeros (before, after). `dims` selects the rules for 1D or for 2D
        convolutions (paper section 3.1; see `transform_size` and `kept_frequencies`). Raises `ValueError` for
        a compression outside [0, 1) and for an illegal `fft_size`, such as an int smaller than the padded
        input.
        """
        before, after = padding
        span = (kernel - 1) * dilation + 1
        size = transform_size(length + before + after, span, fft_size=fft_size, dims=dims)
        kept = kept_frequencies(size, compression, dims=dims)
        # Plain ints, also where `torch.compile` has replaced sizes or the compression by symbols.
        return cls(index(length), before, after, index(size), index(kept))


@dataclass(frozen=True)
class Band:
    """The band of one layer at one input size: the kept low-frequency corner of the one-sided spectrum.

    `axes` has one entry for each spatial dimension: (rows, columns), or (columns,) in 1D.
    """

    axes: tuple[AxisBand, ...]

    @property
    def is_cut(self) -> bool:
        """Whether at least one axis drops frequencies."""
        return self.axes[0].is_cut or self.axes[-1].is_cut

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Numbers of kept rows and kept columns of the one-sided spectrum; in 1D only of columns.

        This is (2k - 1, k) for a square map that keeps k frequencies on each axis.
        """
        return (*(axis.two_sided for axis in self.axes[:-1]), self.axes[-1].kept)

    @property
    def kept(self) -> int:
        """Number of kept complex coefficients of the one-sided spectrum, the product of `kept_shape`."""
        return math.prod(self.kept_shape)

    @property
    def full(self) -> int:
        """Number of all complex coefficients of the one-sided spectrum.

        This is N * (N // 2 + 1) for a square map, whose transform has N points on each axis.
        """
        return math.prod([axis.size for axis in self.axes[:-1]]) * self.axes[-1].half

    @property
    def effective_compression(self) -> float:
        """Share of the one-sided spectrum that is dropped, `1 - kept / full`, as in the paper's figures."""
        return 1 - self.kept / self.full


def check_compression(compression: float) -> None:
    """Raise `ValueError` unless 0 <= compression < 1."""
    if not 0 <= compression < 1:  # also false for NaN
        raise ValueError(f"compression must be in [0, 1), got {compression!r}")


def check_fft_size(fft_size: FftSize) -> None:
    """Raise `ValueError` unless `fft_size` is "paper", "compact" or a positive int."""
    is_size = isinstance(fft_size, int) and not isinstance(fft_size, bool) and fft_size > 0
    if not is_size and fft_size not in ("paper", "compact"):
        raise ValueError(f"fft_size must be 'paper', 'compact' or a positive int, got {fft_size!r}")


def kept_frequencies(size: int, compression: float, *, dims: Literal[1, 2] = 2) -> int:
    """Return the number of kept frequencies of an axis whose transform has `size` points.

    The axis has half = size // 2 + 1 frequencies. In 2D, max(1, int(half * sqrt(1 - compression))) of them
    are kept. So the corner that both axes keep is about the share 1 - compression of the spectrum (paper
    section 3.1). In 1D, by the rule of the authors' code, max(1, half - (int(half * compression) + 1)) are
    kept, or all if compression is 0. The formulas are computed in Python floats, because single precision
    changes the result for some sizes. Raises `ValueError` unless 0 <= compression < 1.
    """
    check_compression(compression)
    half = size // 2 + 1
    if dims == 2:
        return max(1, int(half * math.sqrt(1 - compression)))
    return max(1, half - (int(half * compression) + 1)) if compression else half


def transform_size(padded: int, span: int, *, fft_size: FftSize, dims: Literal[1, 2] = 2) -> int:
    """Return the number of points of the transform of an axis.

    `padded` is the number of input positions, padding included. `span` is the distance between the first and
    the last tap of the filter, plus 1. With `fft_size` "paper" the result is a power of two by the authors'
    rules for 1D and 2D; it is large enough for a linear convolution in the forward pass and for both
    gradients. With "compact" the result is `padded`. This suffices, because the output and both gradients use
    only indices below `padded`, so nothing wraps around. If `fft_size` is an int, it is the result. Raises
    `ValueError` for an int smaller than `padded` and for any other value.
    """
    check_fft_size(fft_size)
    if fft_size == "compact":
        return padded
    if fft_size == "paper":
        out = padded - span + 1
        needed = padded + (max(out, span) - 1 if dims == 2 else 2 * max(span - 1, out - 1))
        return 1 << max(needed - 1, 0).bit_length()
    if int(fft_size) < padded:
        raise ValueError(f"fft_size must be at least the padded input size {padded}, got {fft_size}")
    return int(fft_size)
