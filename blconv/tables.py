"""Constant matrices ("tables") of cosines and sines, built in float64 and cached by axes, dtype and device.

"analysis" is the forward Fourier transform from positions to the kept frequencies, "synthesis" the inverse
transform from the kept frequencies to positions. u is a frequency of the axis of the image's rows (vertical),
and v is one of the axis of its columns (horizontal). A table is identified by its kind (the name of the
function that builds it) and its axes. The axes are tuples of ints, because `torch.compile` treats the result
of a call as a constant only if all its arguments are plain constants.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from blconv.band import AxisBand
from blconv.constants import on_device
from blconv.geometry import DenseAxis, TransformAxis

Axes = tuple[AxisBand, ...] | tuple[TransformAxis, ...] | tuple[DenseAxis, ...]


def low_pass(axis: AxisBand) -> Tensor:
    """Return the matrix A (padded, length) that pads an axis and drops the frequencies outside its band.

    A[i, j] = 1/N * sum over |f| < k of cos(2 pi f * (i - before - j) / N), for the padded position i and the
    input position j, with N = `axis.size`, k = `axis.kept` and before = `axis.before`. If the axis drops no
    frequency, A only pads: it is 1 where i - before == j and 0 elsewhere. The sum cannot be used then,
    because it would count the Nyquist frequency twice.
    """
    offset = torch.arange(axis.padded)[:, None] - axis.before - torch.arange(axis.length)[None, :]
    if not axis.is_cut:
        return (offset == 0).double()
    cosine, _ = _waves(torch.arange(1, axis.kept), torch.arange(axis.size), axis.size)
    response = (1 + 2 * cosine.sum(0)) / axis.size
    return response[offset % axis.size]


def low_pass_plane(rows: AxisBand, columns: AxisBand) -> Tensor:
    """Return the matrix that filters all pixels of a plane: the Kronecker product of two `low_pass` matrices.

    Its shape is (padded pixels, input pixels); the pixels of a plane are counted row by row.
    """
    return torch.kron(low_pass(rows), low_pass(columns))


def low_pass_taps(axis: DenseAxis) -> Tensor:
    """Return the rows of the `low_pass` matrix that the taps of a filter read, (taps, out, length).

    Entry [t, n] is the row for the padded position that tap t reads for output n.
    """
    taps, outputs = torch.arange(axis.taps) * axis.dilation, torch.arange(axis.out) * axis.stride
    return low_pass(axis.band)[taps[:, None] + outputs[None, :]]


def analysis(axis: TransformAxis) -> Tensor:
    """Return the real matrix (2 * kept, positions) that transforms real values to the frequencies u >= 0.

    For each u it has one row for the real and then one for the imaginary part. The Fourier sums are scaled by
    1 / sqrt(size).
    """
    cosine, sine = _waves(one_sided_frequencies(axis), _positions(axis), axis.size)
    return torch.stack([cosine, -sine], 1).flatten(0, 1) / math.sqrt(axis.size)


def analysis_complex(axis: TransformAxis) -> Tensor:
    """Return the real matrix that transforms complex values to the kept frequencies v of both signs.

    For each v it has one row for the real and then one for the imaginary part of the result. Its columns are
    the real parts at all positions, then the imaginary parts. The Fourier sums are scaled by 1 / sqrt(size).
    """
    cosine, sine = _waves(two_sided_frequencies(axis), _positions(axis), axis.size)
    table = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)
    return table.flatten(2, 3).flatten(0, 1) / math.sqrt(axis.size)


def synthesis(axis: TransformAxis) -> Tensor:
    """Return the real matrix (positions, 2 * kept) that transforms the frequencies u >= 0 to real values.

    For each u it has one column for the real and then one for the imaginary part. All frequencies but 0 and
    Nyquist count twice, since their conjugates are not stored. The Fourier sums are scaled by 1 / sqrt(size).
    """
    u = one_sided_frequencies(axis)
    cosine, sine = _waves(_positions(axis), u, axis.size)
    pairs = torch.where((u == 0) | (2 * u == axis.size), 1.0, 2.0).double()
    return torch.stack([cosine * pairs, -sine * pairs], 2).flatten(1, 2) / math.sqrt(axis.size)


def synthesis_complex(axis: TransformAxis) -> Tensor:
    """Return the real matrix that transforms the kept frequencies v of both signs to complex values.

    Its rows are the real parts at all positions, then the imaginary parts. For each v it has one column for
    the real and then one for the imaginary part. The Fourier sums are scaled by 1 / sqrt(size).
    """
    cosine, sine = _waves(_positions(axis), two_sided_frequencies(axis), axis.size)
    table = torch.stack([torch.stack([cosine, -sine], 2), torch.stack([sine, cosine], 2)], 0)
    return table.flatten(2, 3).flatten(0, 1) / math.sqrt(axis.size)


def filters(axis: TransformAxis) -> Tensor:
    """Return the real matrix (2 * kept, taps) that computes a 1D filter's spectrum at frequencies u >= 0.

    For each u it has one row for the real and then one for the imaginary part. The Fourier sums are not
    scaled.
    """
    cosine, sine = _waves(one_sided_frequencies(axis), _positions(axis), axis.size)
    return torch.stack([cosine, -sine], 1).flatten(0, 1)


def filters_plane(rows: TransformAxis, columns: TransformAxis) -> Tensor:
    """Return the real matrix that computes the spectrum of a 2D filter from its taps.

    The matrix has two rows, for the real and the imaginary part, for each pair (u, v) of a frequency u >= 0
    and a frequency v of either sign. It has one column for each tap of the filter, in row-major order. The
    Fourier sums are not scaled.
    """
    row_wave = torch.complex(*_waves(one_sided_frequencies(rows), _positions(rows), rows.size))
    column_wave = torch.complex(*_waves(two_sided_frequencies(columns), _positions(columns), columns.size))
    wave = torch.einsum("ui,vj->uvij", row_wave, column_wave).conj().flatten(2).flatten(0, 1)
    return torch.stack([wave.real, wave.imag], 1).flatten(0, 1)


def filter_table(rows: TransformAxis, columns: TransformAxis) -> Tensor:
    """Return the constants F (Q, taps, 2, 2) from which CUDA kernels make a filter's matrix per frequency.

    There are Q kept frequencies (u, v): first all u >= 0 with v = 0, then u of both signs for each v > 0. For
    a filter w, the matrix of frequency q is the sum over the taps k of w[k] * F[q, k]. This matrix is
    [[re, im], [-im, re]], where re + i im is the conjugate of the filter's spectrum at q, multiplied by 2
    except for the mean, because the conjugates of the other q are not stored. If only the mean is kept, F is
    (1, taps, 1, 1), without imaginary parts.
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
    """Return the constants F (1, taps, input pixels, output pixels) of the matrix of the method "dense".

    For a filter w, the matrix is the sum over the taps k of w[k] * F[0, k].
    """
    whole = torch.einsum("tna,smb->tsabnm", low_pass_taps(rows), low_pass_taps(columns))
    return whole.flatten(4).flatten(2, 3).flatten(0, 1)[None]


def one_sided_frequencies(axis: TransformAxis) -> Tensor:
    """Return the kept non-negative frequencies, 0 .. `kept` - 1."""
    return torch.arange(axis.kept)


def two_sided_frequencies(axis: TransformAxis) -> Tensor:
    """Return the kept frequencies of both signs, -(`kept` - 1) .. `kept` - 1.

    If the axis drops no frequency, return 0 .. `size` - 1 instead.
    """
    return torch.arange(1 - axis.kept, axis.kept) if axis.is_cut else torch.arange(axis.size)


def _positions(axis: TransformAxis) -> Tensor:
    return axis.start + axis.step * torch.arange(axis.positions)


def _waves(left: Tensor, right: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of 2 pi * left[i] * right[j] / size, each float64 (len(left), len(right)).

    The product left[i] * right[j] is reduced modulo `size` as an integer, so that the phase is exact.
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
    """Return the table `BUILDERS[kind](*axes)` in the dtype and on the device of `like`."""
    if type(like) in (Tensor, nn.Parameter):
        found: Tensor = _constant(kind, axes, like.dtype, like.device)[0]
        return found
    # A table made under torch.export or a fake mode is fake too, and must not enter the cache.
    return _build(kind, axes, like.dtype, like.device)


def _build(kind: str, axes: Axes, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Inference tensors cannot be saved for a backward pass, so the cache must not hold any.
    with torch.inference_mode(False), torch.no_grad():
        return BUILDERS[kind](*axes).contiguous().to(device=device, dtype=dtype)


@lru_cache(maxsize=1024)
def _cached(kind: str, axes: Axes, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return on_device(_build(kind, axes, dtype, torch.device("cpu")), device)


def constant(kind: str, axes: Axes, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the table `BUILDERS[kind](*axes)` in `dtype` on `device`, from a cache."""
    return _cached(kind, axes, dtype, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _constant(kind: str, axes: Axes, dtype: torch.dtype, device: torch.device) -> tuple[Tensor]:
    # In a tuple: torch 2.11's compiler would give the tensors of all calls the name of this function.
    return (constant(kind, axes, dtype, device),)
