"""Constant matrices of cosines and sines, built in float64 and cached by axes, dtype and device.

A table is identified by its kind and its axes. The axes are tuples of ints, because `torch.compile` treats
the result of a call as a constant only if all its arguments are plain constants.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from blconv.band import AxisBand
from blconv.geometry import DenseAxis, TransformAxis

Axes = tuple[AxisBand, ...] | tuple[TransformAxis, ...] | tuple[DenseAxis, ...]


def low_pass(axis: AxisBand) -> Tensor:
    """Return A[i, j] = 1/N sum over |f| < k of cos(2 pi f (i - before - j) / N), (padded, length).

    i is a padded, j an input position. Where the axis is not cut, A is the padding matrix (1 where
    i - before == j): the sum would count Nyquist twice.
    """
    offset = torch.arange(axis.padded)[:, None] - axis.before - torch.arange(axis.length)[None, :]
    if not axis.is_cut:
        return (offset == 0).double()
    cosine, _ = _waves(torch.arange(1, axis.kept), torch.arange(axis.size), axis.size)
    response = (1 + 2 * cosine.sum(0)) / axis.size
    return response[offset % axis.size]


def low_pass_plane(rows: AxisBand, columns: AxisBand) -> Tensor:
    """Return the Kronecker product of the low-pass matrices of rows and columns: it filters a whole plane."""
    return torch.kron(low_pass(rows), low_pass(columns))


def low_pass_taps(axis: DenseAxis) -> Tensor:
    """Return the row of the low-pass that tap t of output n reads, (taps, out, length)."""
    taps, outputs = torch.arange(axis.taps) * axis.dilation, torch.arange(axis.out) * axis.stride
    return low_pass(axis.band)[taps[:, None] + outputs[None, :]]


def analysis(axis: TransformAxis) -> Tensor:
    """Return rows (u, real | imaginary) x positions: the kept non-negative frequencies of a real axis."""
    cosine, sine = _waves(one_sided_frequencies(axis), _positions(axis), axis.size)
    return torch.stack([cosine, -sine], 1).flatten(0, 1) / math.sqrt(axis.size)


def analysis_complex(axis: TransformAxis) -> Tensor:
    """Return rows (v, real | imaginary) x columns (real | imaginary, positions), for both signs of v."""
    cosine, sine = _waves(two_sided_frequencies(axis), _positions(axis), axis.size)
    table = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)
    return table.flatten(2, 3).flatten(0, 1) / math.sqrt(axis.size)


def synthesis(axis: TransformAxis) -> Tensor:
    """Return rows positions x (u, real | imaginary): real values of a half spectrum; pairs count twice."""
    u = one_sided_frequencies(axis)
    cosine, sine = _waves(_positions(axis), u, axis.size)
    pairs = torch.where((u == 0) | (2 * u == axis.size), 1.0, 2.0).double()
    return torch.stack([cosine * pairs, -sine * pairs], 2).flatten(1, 2) / math.sqrt(axis.size)


def synthesis_complex(axis: TransformAxis) -> Tensor:
    """Return rows (real | imaginary, positions) x columns (v, real | imaginary)."""
    cosine, sine = _waves(_positions(axis), two_sided_frequencies(axis), axis.size)
    table = torch.stack([torch.stack([cosine, -sine], 2), torch.stack([sine, cosine], 2)], 0)
    return table.flatten(2, 3).flatten(0, 1) / math.sqrt(axis.size)


def filters(axis: TransformAxis) -> Tensor:
    """Return rows (u, real | imaginary) x taps: the spectrum of a 1D filter."""
    cosine, sine = _waves(one_sided_frequencies(axis), _positions(axis), axis.size)
    return torch.stack([cosine, -sine], 1).flatten(0, 1)


def filters_plane(rows: TransformAxis, columns: TransformAxis) -> Tensor:
    """Return rows (u, v, real | imaginary) x (row taps, column taps): the spectrum of a 2D filter."""
    row_wave = torch.complex(*_waves(one_sided_frequencies(rows), _positions(rows), rows.size))
    column_wave = torch.complex(*_waves(two_sided_frequencies(columns), _positions(columns), columns.size))
    wave = torch.einsum("ui,vj->uvij", row_wave, column_wave).conj().flatten(2).flatten(0, 1)
    return torch.stack([wave.real, wave.imag], 1).flatten(0, 1)


def filter_table(rows: TransformAxis, columns: TransformAxis) -> Tensor:
    """Return the factors of a filter's taps in the real form of its spectrum, (Q, taps, 2, 2).

    Frequencies q are u for v = 0 and u >= 0, then both signs of u for each v > 0; [[re, im], [-im, re]]
    is the spectrum's conjugate, times the number of coefficients that q represents: 1 for the mean, 2 for
    the others. Where only the mean is kept, (1, taps, 1, 1).
    """
    pairs = [(u, 0) for u in range(rows.kept)]
    pairs += [(u, v) for v in range(1, columns.kept) for u in range(1 - rows.kept, rows.kept)]
    u, v = torch.tensor(pairs).T
    row_wave = torch.complex(*_waves(u, _positions(rows), rows.size))
    column_wave = torch.complex(*_waves(v, _positions(columns), columns.size))
    wave = torch.einsum("qi,qj->qij", row_wave, column_wave).flatten(1) * 2
    wave[0] /= 2
    if len(pairs) == 1:
        return wave.real[:, :, None, None]
    real, imaginary = wave.real, wave.imag
    return torch.stack([real, imaginary, -imaginary, real], -1).view(*real.shape, 2, 2)


def pixel_filter_table(rows: DenseAxis, columns: DenseAxis) -> Tensor:
    """Return the weights of taps in the matrix of `methods.dense`: (1, taps, input pixels, output pixels)."""
    whole = torch.einsum("tna,smb->tsabnm", low_pass_taps(rows), low_pass_taps(columns))
    return whole.flatten(4).flatten(2, 3).flatten(0, 1)[None]


def one_sided_frequencies(axis: TransformAxis) -> Tensor:
    """Return the kept frequencies 0 .. k - 1."""
    return torch.arange(axis.kept)


def two_sided_frequencies(axis: TransformAxis) -> Tensor:
    """Return the kept frequencies of both signs, -(k - 1) .. k - 1, or all N where the axis is not cut."""
    return torch.arange(1 - axis.kept, axis.kept) if axis.is_cut else torch.arange(axis.size)


def _positions(axis: TransformAxis) -> Tensor:
    return axis.start + axis.step * torch.arange(axis.positions)


def _waves(left: Tensor, right: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of 2 pi left right / size, (len(left), len(right)).

    The product is reduced modulo `size` as an integer, so that the phase is exact.
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


def table(kind: str, axes: Axes, like: Tensor) -> Tensor:
    """Return the table `kind` of `axes`, in the dtype and on the device of `like`."""
    if type(like) in (Tensor, nn.Parameter):
        found: Tensor = _constant(kind, axes, like.dtype, like.device)[0]
        return found
    # A table made under torch.export or a fake mode is fake too, and must not enter the cache.
    return _build(kind, axes, like.dtype, like.device)


def _build(kind: str, axes: Axes, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Inference tensors cannot be saved for a backward pass, so the cache must not hold any.
    with torch.inference_mode(False), torch.no_grad():
        return BUILDERS[kind](*axes).contiguous().to(device=device, dtype=dtype)


_cached = lru_cache(maxsize=1024)(_build)


def constant(kind: str, axes: Axes, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the table `kind` of `axes` from the cache."""
    return _cached(kind, axes, dtype, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _constant(kind: str, axes: Axes, dtype: torch.dtype, device: torch.device) -> tuple[Tensor]:
    # Not the tensor itself: torch 2.11's compiler gives all results of a function the function's name.
    return (constant(kind, axes, dtype, device),)
