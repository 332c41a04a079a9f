"""Band-limited convolution as functions of tensors."""

import torch.nn.functional as F
from torch import Tensor

from blconv.band import AxisBand, Band, FftSize, check_compression, check_fft_size
from blconv.dft import low_pass

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
) -> Tensor:
    """Convolve after dropping the high frequencies of the input (paper section 3).

    y = irfft2(mask * rfft2(pad(x)) * conj(rfft2(w))), cropped and strided, computed as the identity
    y = conv2d(A x A^T, w): the mask is separable and idempotent, so filtering the input suffices.

    Args:
        x: (batch, in_channels, H, W) or (in_channels, H, W), floating point.
        weight: (out_channels, in_channels / groups, K_h, K_w).
        bias: (out_channels,) or None.
        stride: step of the output, an int or a pair.
        padding: zeros on both sides of each axis, an int, a pair, "same" (stride 1) or "valid".
        dilation: spacing of the filter's taps, an int or a pair.
        groups: number of groups of channels.
        compression: nominal share of the spectrum that is dropped, in [0, 1); 0 is exactly
            `torch.nn.functional.conv2d`.
        fft_size: points of the transform: "paper" (next power of two of the linear convolution),
            "compact" (the padded input), or an int of at least the padded input.

    Returns:
        (batch, out_channels, H_out, W_out), in x's dtype; channels_last where x is.

    Raises:
        ValueError: an illegal compression, fft_size, padding or stride; named with the legal values.
    """
    check_compression(compression)
    check_fft_size(fft_size)
    if compression == 0:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    band = conv2d_band(
        (x.shape[-2], x.shape[-1]),
        (weight.shape[-2], weight.shape[-1]),
        stride=stride,
        padding=padding,
        dilation=dilation,
        compression=compression,
        fft_size=fft_size,
    )
    if not band.is_cut:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return F.conv2d(low_pass(x, band), weight, bias, stride, 0, dilation, groups)


def conv2d_band(
    input_size: tuple[int, int],
    kernel_size: tuple[int, int],
    *,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    compression: float,
    fft_size: FftSize = "paper",
) -> Band:
    """The band of a 2D convolution: per axis the transform size and the kept frequencies.

    Raises `ValueError` as `band_limited_conv2d` does.
    """
    dilations = _pair(dilation)
    pads = _pads(padding, kernel_size, dilations, _pair(stride))
    rows, columns = (
        AxisBand.of(
            input_size[axis],
            kernel_size[axis],
            padding=pads[axis],
            dilation=dilations[axis],
            compression=compression,
            fft_size=fft_size,
        )
        for axis in (0, 1)
    )
    return Band(rows, columns)


def _pair(value: IntPair) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if len(value) not in (1, 2):
        raise ValueError(f"expected an int or a pair of ints, got {value!r}")
    # Read element by element: torch hands over lists and one-element tuples too.
    return int(value[0]), int(value[-1])


def _pads(
    padding: IntPair | str,
    kernel_size: tuple[int, int],
    dilation: tuple[int, int],
    stride: tuple[int, int],
) -> list[tuple[int, int]]:
    """Zeros (before, after) each axis."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"padding='same' needs stride 1, got stride={stride}")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(padding, str):
        raise ValueError(f"padding must be an int, a pair of ints, 'same' or 'valid', got {padding!r}")
    pads = _pair(padding)
    if min(pads) < 0:
        raise ValueError(f"padding must not be negative, got {padding!r}")
    return [(p, p) for p in pads]
