"""The band: the kept coefficients of a convolution's spectrum for a map size and a compression."""

import math
from dataclasses import dataclass
from operator import index
from typing import Literal, NamedTuple

FftSize = Literal["paper", "compact"] | int


class AxisBand(NamedTuple):
    """One axis of a band: `kept` of the `half` frequencies of a transform of `size` points.

    `length` is the input's extent without padding; `before` and `after` are the zeros around it.
    A tuple, because every call of a layer hashes it for the keys of several caches.
    """

    length: int
    before: int
    after: int
    size: int
    kept: int

    @property
    def padded(self) -> int:
        """Extent with the padding."""
        return self.before + self.length + self.after

    @property
    def half(self) -> int:
        """Number of non-negative frequencies, `size // 2 + 1`."""
        return self.size // 2 + 1

    @property
    def is_cut(self) -> bool:
        """Whether at least one frequency of this axis is dropped."""
        return self.kept < self.half

    @property
    def two_sided(self) -> int:
        """Number of kept frequencies of both signs: `2 kept - 1`, or `size` if no frequency is dropped."""
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
        """Return the band of an input of `length` points for a filter of `kernel` taps.

        Paper section 3.1; `dims` selects the rules of 1D or of 2D convolutions, see `transform_size` and
        `kept_frequencies`. Raises `ValueError` for a compression outside [0, 1)
        or an integer `fft_size` smaller than the padded input.
        """
        before, after = padding
        span = (kernel - 1) * dilation + 1
        size = transform_size(length + before + after, span, fft_size=fft_size, dims=dims)
        kept = kept_frequencies(size, compression, dims=dims)
        # Plain ints, also where `torch.compile` has replaced sizes or the compression by symbols.
        return cls(index(length), before, after, index(size), index(kept))


@dataclass(frozen=True)
class Band:
    """The kept corner of the one-sided spectrum of one layer at one input size, one axis per dimension."""

    axes: tuple[AxisBand, ...]

    @property
    def is_cut(self) -> bool:
        """Whether any axis is cut."""
        return any(axis.is_cut for axis in self.axes)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Kept rows and columns of the one-sided spectrum: (2k - 1, k) for a square map."""
        return (*(axis.two_sided for axis in self.axes[:-1]), self.axes[-1].kept)

    @property
    def kept(self) -> int:
        """Number of complex coefficients kept: (2k - 1) k for a square map."""
        return math.prod(self.kept_shape)

    @property
    def full(self) -> int:
        """Number of complex coefficients of the one-sided spectrum: N (N // 2 + 1) for a square map."""
        return math.prod([axis.size for axis in self.axes[:-1]]) * self.axes[-1].half

    @property
    def effective_compression(self) -> float:
        """Share of the coefficients that are dropped, `1 - kept / full`, as in the paper's figures."""
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
    """Return how many of an axis's `half = size // 2 + 1` frequencies are kept.

    2D: max(1, int(half sqrt(1 - compression))), so that the corner holds the share 1 - compression (paper
    section 3.1). 1D, by the authors' rule: max(1, half - (int(half compression) + 1)), or all of them where
    compression is 0. Computed in Python floats exactly as written: single precision changes the result for
    some sizes.
    """
    check_compression(compression)
    half = size // 2 + 1
    if dims == 2:
        return max(1, int(half * math.sqrt(1 - compression)))
    return max(1, half - (int(half * compression) + 1)) if compression else half


def transform_size(padded: int, span: int, *, fft_size: FftSize, dims: Literal[1, 2] = 2) -> int:
    """Return the number of points of the transform, for `padded` input points and a filter of `span` points.

    "paper" is the next power of two that holds a linear convolution in the forward and both backward
    passes, by the authors' rule for 1D and 2D; "compact" is `padded`: every index that the valid
    correlation touches stays below it, so nothing wraps. Raises `ValueError` for an int smaller than
    `padded`.
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
