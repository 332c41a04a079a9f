"""Band-limited convolutions as functions of tensors, like those of `torch.nn.functional`."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import index
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.band import AxisBand, Band, FftSize, check_compression, check_fft_size
from blconv.geometry import Geometry
from blconv.methods.choice import METHODS, Method, check_method, choose

IntPair = int | tuple[int, ...]


def band_limited_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    compression: float = 0.0,
    fft_size: FftSize = "paper",
    method: Method = "auto",
) -> Tensor:
    """Compute a 2D convolution after dropping the high frequencies of the input (paper section 3).

    y = irfft2(mask * rfft2(pad(x)) * conj(rfft2(weight))), cropped to the valid outputs, then strided. The
    mask is 1 for the low frequencies that are kept and 0 for the others. All methods compute this result.

    Args:
        x: (batch, in_channels, H, W) or (in_channels, H, W), floating point.
        weight: (out_channels, in_channels / groups, K_h, K_w).
        bias: (out_channels,) or None.
        stride: step of the output, an int or a pair.
        padding: number of zeros on both sides of each axis, an int or a pair; or "valid" (no zeros), or
            "same" (as many as keep the size; only with stride 1).
        dilation: spacing of the filter's taps, an int or a pair.
        groups: number of groups of channels.
        compression: nominal share of the spectrum that is dropped, in [0, 1). With 0 the function is
            exactly `torch.nn.functional.conv2d`.
        fft_size: number of points of the transform: "paper" (the next power of two that holds the linear
            convolution), "compact" (the size of the padded input), or an int that is not smaller.
        method: "auto", "lowpass", "spectral", "dense" or "paper" (`blconv.methods.choice`). If the named
            method does not support these arguments, "lowpass" computes the same result.

    Returns:
        (batch, out_channels, H_out, W_out), without the batch if x has none. The dtype is that of x, or
        autocast's. The memory format is channels_last if that of x is.

    Raises:
        ValueError: an illegal compression, fft_size, method, padding or stride; the message names the
            legal values.
    """
    return _band_limited(
        F.conv2d, x, weight, bias, stride, padding, dilation, groups, compression, fft_size, method
    )


def band_limited_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    compression: float = 0.0,
    fft_size: FftSize = "paper",
    method: Method = "auto",
) -> Tensor:
    """Compute a 1D convolution after dropping the high frequencies of the input (paper sections 3 and 6.3).

    y = irfft(mask * rfft(pad(x)) * conj(rfft(weight))), cropped to the valid outputs, then strided. As in the
    authors' 1D code, the transform of `fft_size` "paper" is longer than in 2D, and the number of kept
    frequencies is linear in `compression`.

    x is (batch, in_channels, W) or (in_channels, W), weight (out_channels, in_channels / groups, K), and the
    result (batch, out_channels, W_out), without the batch if x has none. All else, errors included, is as in
    `band_limited_conv2d`.
    """
    return _band_limited(
        F.conv1d, x, weight, bias, stride, padding, dilation, groups, compression, fft_size, method
    )


def _band_limited(
    ordinary: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntPair,
    padding: IntPair | str,
    dilation: IntPair,
    groups: int,
    compression: float,
    fft_size: FftSize,
    method: Method,
) -> Tensor:
    check_compression(compression)
    check_fft_size(fft_size)
    check_method(method)
    if compression:
        dims = weight.dim() - 2
        geometry = geometry_of(
            x.shape[-dims:], weight.shape[2:], stride=stride, padding=padding, dilation=dilation,
            groups=groups, compression=compression, fft_size=fft_size,
        )  # fmt: skip
        if geometry.band.is_cut:
            return convolve(x, weight, bias, geometry, method)
    return ordinary(x, weight, bias, stride, padding, dilation, groups)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, method: Method = "auto"
) -> Tensor:
    """Compute the convolution with only the frequencies that `geometry` keeps; it must drop at least one.

    x is (batch, C, [H,] W) or (C, [H,] W), without padding. Raises `RuntimeError` for another number of
    dimensions.
    """
    dims, batched = geometry.dims, x
    if x.dim() == dims + 1:
        batched = x[None]
    elif x.dim() != dims + 2:
        legal = f"{dims + 1}D (unbatched) or {dims + 2}D (batched)"
        raise RuntimeError(f"expected {legal} input, got {x.dim()}D")
    y = METHODS[choose(batched, weight, geometry, method).method](batched, weight, geometry)
    if bias is not None:
        y = y + bias.to(y.dtype).view(-1, *[1] * dims)
    return y if batched is x else y[0]


def geometry_of(
    input_size: Sequence[int],
    kernel_size: Sequence[int],
    *,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    compression: float,
    fft_size: FftSize = "paper",
) -> Geometry:
    """Return the sizes of a convolution for inputs of `input_size`, (W,) or (H, W) without padding.

    Raises `ValueError` as `band_limited_conv2d` does.
    """
    arguments: Any = input_size, kernel_size, stride, padding, dilation, groups, compression, fft_size
    # `torch.compile` traces the arithmetic. In eager code the cache saves more than ten microseconds.
    if torch.compiler.is_compiling():
        return _geometry(*arguments)
    try:
        return _cached_geometry(*arguments)
    except TypeError:  # a list cannot be part of a cache's key
        return _cached_geometry(*(tuple(n) if isinstance(n, list) else n for n in arguments))


def _geometry(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: IntPair,
    padding: IntPair | str,
    dilation: IntPair,
    groups: int,
    compression: float,
    fft_size: FftSize,
) -> Geometry:
    dims = len(kernel_size)
    kernel = tuple(index(k) for k in kernel_size)
    strides, dilations = per_axis(stride, dims), per_axis(dilation, dims)
    pads = _pads(padding, kernel, dilations, strides)
    axes = tuple(
        AxisBand.of(
            length, taps, padding=pad, dilation=spread, compression=compression,
            fft_size=fft_size, dims=1 if dims == 1 else 2,
        )
        for length, taps, pad, spread in zip(input_size, kernel, pads, dilations, strict=True)
    )  # fmt: skip
    return Geometry(Band(axes), kernel, strides, dilations, groups)


_cached_geometry = lru_cache(maxsize=4096)(_geometry)


def per_axis(value: IntPair, dims: int) -> tuple[int, ...]:
    """Return one int for each of `dims` axes; `value` is an int, or a sequence of one int or of `dims` ints.

    Raises `ValueError` for a sequence of another length.
    """
    if isinstance(value, int):
        return (value,) * dims
    if len(value) not in (1, dims):
        several = "a pair of ints" if dims == 2 else "a tuple of one"
        raise ValueError(f"expected an int or {several}, got {value!r}")
    return tuple(int(n) for n in value) * (dims // len(value))


def _pads(
    padding: IntPair | str,
    kernel_size: tuple[int, ...],
    dilation: tuple[int, ...],
    stride: tuple[int, ...],
) -> list[tuple[int, int]]:
    """Return the numbers of zeros (before, after) that `padding` adds on each axis.

    Raises `ValueError` for an illegal padding, and for "same" with a stride other than 1.
    """
    dims = len(kernel_size)
    if padding == "valid":
        return [(0, 0)] * dims
    if padding == "same":
        if set(stride) != {1}:
            raise ValueError(f"padding='same' needs stride 1, got stride={stride}")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(padding, str):
        raise ValueError(f"padding must be an int, a pair of ints, 'same' or 'valid', got {padding!r}")
    pads = per_axis(padding, dims)
    if min(pads) < 0:
        raise ValueError(f"padding must not be negative, got {padding!r}")
    return [(p, p) for p in pads]
