"""Constant matrices of cosines and sines, built in float64 and kept per shape, dtype and device.

A table is named by a kind and a tuple of ints, because `torch.compile` can take a call's result for
a constant only where all its arguments are plain constants.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from blconv.band import AxisBand

Numbers = tuple[int, ...]


def low_pass(*axis: int) -> Tensor:
    """A[i, j] = 1/N sum over |f| < k of cos(2 pi f (i - before - j) / N), (padded, length).

    The numbers of an `AxisBand`; i is a padded, j an input position. Where the axis is not cut, A is
    the padding matrix (1 where i - before == j): the sum would count Nyquist twice.
    """
    band = AxisBand(*axis)
    offset = torch.arange(band.padded)[:, None] - band.before - torch.arange(band.length)[None, :]
    if not band.is_cut:
        return (offset == 0).double()
    cosine, _ = _waves(torch.arange(1, band.kept), torch.arange(band.size), band.size)
    response = (1 + 2 * cosine.sum(0)) / band.size
    return response[offset % band.size]


def low_pass_plane(*axes: int) -> Tensor:
    """The Kronecker product of the rows' and the columns' low-pass: a whole plane in one product."""
    return torch.kron(low_pass(*axes[:5]), low_pass(*axes[5:]))


def low_pass_taps(taps: int, dilation: int, out: int, stride: int, *axis: int) -> Tensor:
    """The row of the low-pass that tap t of output n reads, (taps, out, length)."""
    rows = torch.arange(taps)[:, None] * dilation + torch.arange(out)[None, :] * stride
    return low_pass(*axis)[rows]


def analysis(*axis: int) -> Tensor:
    """Rows (u, real | imaginary) x length: the kept non-negative frequencies of a real axis."""
    band = AxisBand(*axis)
    cosine, sine = _waves(one_sided_frequencies(band), torch.arange(band.length) + band.before, band.size)
    return torch.stack([cosine, -sine], 1).flatten(0, 1) / math.sqrt(band.size)


def analysis_complex(*axis: int) -> Tensor:
    """Rows (v, real | imaginary) x columns (real | imaginary, length): both signs, complex to complex."""
    band = AxisBand(*axis)
    cosine, sine = _waves(two_sided_frequencies(band), torch.arange(band.length) + band.before, band.size)
    table = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)
    return table.flatten(2, 3).flatten(0, 1) / math.sqrt(band.size)


def synthesis(out: int, stride: int, *axis: int) -> Tensor:
    """Rows out x (u, real | imaginary): the real output of a half spectrum; pairs count twice."""
    band = AxisBand(*axis)
    u = one_sided_frequencies(band)
    cosine, sine = _waves(torch.arange(out) * stride, u, band.size)
    pairs = torch.where((u == 0) | (2 * u == band.size), 1.0, 2.0).double()
    return torch.stack([cosine * pairs, -sine * pairs], 2).flatten(1, 2) / math.sqrt(band.size)


def synthesis_complex(out: int, stride: int, *axis: int) -> Tensor:
    """Rows (real | imaginary, out) x columns (v, real | imaginary)."""
    band = AxisBand(*axis)
    cosine, sine = _waves(torch.arange(out) * stride, two_sided_frequencies(band), band.size)
    table = torch.stack([torch.stack([cosine, -sine], 2), torch.stack([sine, cosine], 2)], 0)
    return table.flatten(2, 3).flatten(0, 1) / math.sqrt(band.size)


def filters(taps: int, dilation: int, *axis: int) -> Tensor:
    """Rows (u, real | imaginary) x taps: the spectrum of a 1D filter."""
    band = AxisBand(*axis)
    cosine, sine = _waves(one_sided_frequencies(band), torch.arange(taps) * dilation, band.size)
    return torch.stack([cosine, -sine], 1).flatten(0, 1)


def filters_plane(*numbers: int) -> Tensor:
    """Rows (u, v, real | imaginary) x (row taps, column taps): the spectrum of a 2D filter.

    Numbers: row taps, row dilation, the rows' axis, then the same for the columns.
    """
    (row_taps, row_dilation), rows = numbers[:2], AxisBand(*numbers[2:7])
    (column_taps, column_dilation), columns = numbers[7:9], AxisBand(*numbers[9:])
    row_wave = torch.complex(
        *_waves(one_sided_frequencies(rows), torch.arange(row_taps) * row_dilation, rows.size)
    )
    column_wave = torch.complex(
        *_waves(two_sided_frequencies(columns), torch.arange(column_taps) * column_dilation, columns.size)
    )
    wave = torch.einsum("ui,vj->uvij", row_wave, column_wave).conj().flatten(2).flatten(0, 1)
    return torch.stack([wave.real, wave.imag], 1).flatten(0, 1)


def filter_table(*numbers: int) -> Tensor:
    """How the taps of a filter make the real form of its spectrum, (Q, row taps x column taps, 2, 2).

    The numbers are those of `filters_plane`. Frequencies q are u for v = 0 and u >= 0, then both signs of
    u for each v > 0; [[re, im], [-im, re]] is the spectrum's conjugate, times the coefficients that q
    stands for: 1 for the mean, 2 for the others. Where only the mean is kept, (1, taps, 1, 1).
    """
    (row_taps, row_dilation), rows = numbers[:2], AxisBand(*numbers[2:7])
    (column_taps, column_dilation), columns = numbers[7:9], AxisBand(*numbers[9:])
    pairs = [(u, 0) for u in range(rows.kept)]
    pairs += [(u, v) for v in range(1, columns.kept) for u in range(1 - rows.kept, rows.kept)]
    u, v = torch.tensor(pairs).T
    row_wave = torch.complex(*_waves(u, torch.arange(row_taps) * row_dilation, rows.size))
    column_wave = torch.complex(*_waves(v, torch.arange(column_taps) * column_dilation, columns.size))
    wave = torch.einsum("qi,qj->qij", row_wave, column_wave).flatten(1) * 2
    wave[0] /= 2
    if len(pairs) == 1:
        return wave.real[:, :, None, None]
    real, imaginary = wave.real, wave.imag
    return torch.stack([real, imaginary, -imaginary, real], -1).view(*real.shape, 2, 2)


def pixel_filter_table(*numbers: int) -> Tensor:
    """How the taps make the matrix of the dense form, (1, taps, input pixels, output pixels).

    Numbers: those of `low_pass_taps` for the rows, then for the columns.
    """
    rows, columns = low_pass_taps(*numbers[:9]), low_pass_taps(*numbers[9:])  # (taps, out, length)
    whole = torch.einsum("tna,smb->tsabnm", rows, columns)
    return whole.flatten(4).flatten(2, 3).flatten(0, 1)[None]


def one_sided_frequencies(axis: AxisBand) -> Tensor:
    """The kept frequencies 0 .. k - 1."""
    return torch.arange(axis.kept)


def two_sided_frequencies(axis: AxisBand) -> Tensor:
    """The kept frequencies of both signs, -(k - 1) .. k - 1, or all N where the axis is not cut."""
    return torch.arange(1 - axis.kept, axis.kept) if axis.is_cut else torch.arange(axis.size)


def _waves(left: Tensor, right: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2 pi left right / size, (len(left), len(right)).

    The product is reduced modulo N as an integer, so that no digit of the phase is lost.
    """
    phase = (left[:, None] * right[None, :] % size).double() * (2 * math.pi / size)
    return phase.cos(), phase.sin()


BUILDERS: dict[str, Callable[..., Tensor]] = {
    "low_pass": low_pass,
    "low_pass_plane": low_pass_plane,
    "low_pass_taps": low_pass_taps,
    "analysis": analysis,
    "analysis_complex": analysis_complex,
    "synthesis": synthesis,
    "synthesis_complex": synthesis_complex,
    "filters": filters,
    "filters_plane": filters_plane,
    "filter_table": filter_table,
    "pixel_filter_table": pixel_filter_table,
}


def table(kind: str, numbers: Numbers, like: Tensor) -> Tensor:
    """The table `kind` of `numbers`, in the dtype and on the device of `like`."""
    if type(like) in (Tensor, nn.Parameter):
        found: Tensor = _constant(kind, numbers, like.dtype, like.device)[0]
        return found
    # A table made under torch.export or a fake mode is fake too: kept, it would spoil later calls.
    return _build(kind, numbers, like.dtype, like.device)


def _build(kind: str, numbers: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Inference tensors cannot be saved for a later backward pass, so the cache never holds one.
    with torch.inference_mode(False), torch.no_grad():
        return BUILDERS[kind](*numbers).contiguous().to(device=device, dtype=dtype)


_cached = lru_cache(maxsize=1024)(_build)


def constant(kind: str, numbers: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The table `kind` of `numbers`, kept."""
    return _cached(kind, numbers, dtype, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _constant(kind: str, numbers: Numbers, dtype: torch.dtype, device: torch.device) -> tuple[Tensor]:
    # Not the tensor itself: torch 2.11's compiler calls all that a function returns by the function's name.
    return (constant(kind, numbers, dtype, device),)
