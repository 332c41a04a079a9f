"""The band-limited convolution by brute force: full complex transforms, a mask by signed frequency."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.band import FftSize

IntPair = int | Sequence[int]
Padding = int | Sequence[int] | str


def pair(value: IntPair) -> tuple[int, ...]:
    """Return one number for each axis."""
    return (value, value) if isinstance(value, int) else tuple(value)


def pads(padding: Padding, kernel: Sequence[int], dilation: IntPair) -> list[tuple[int, int]]:
    """Return the zeros (before, after) of both axes, as torch documents them."""
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, pair(dilation), strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    assert not isinstance(padding, str), padding
    return [(p, p) for p in pair(padding)]


def points(padded: int, span: int, fft_size: FftSize) -> int:
    """Return the size of the transform of one axis."""
    if fft_size == "compact":
        return padded
    if fft_size == "paper":
        return power_of_two(padded + max(padded - span + 1, span) - 1)
    return int(fft_size)


def power_of_two(size: int) -> int:
    """Return the smallest one that is not below `size`."""
    return 1 << math.ceil(math.log2(size))


def keep(size: int, compression: float) -> Tensor:
    """Return which of `size` two-sided frequencies stay."""
    half = size // 2 + 1
    k = max(1, int(half * math.sqrt(1 - compression)))
    frequency = torch.arange(size)
    distance = torch.minimum(frequency, size - frequency)
    return (distance < k) if k < half else torch.ones(size, dtype=torch.bool)


def keep1d(size: int, compression: float) -> Tensor:
    """Return which of the `size // 2 + 1` one-sided frequencies stay, by the authors' rule for series."""
    half = size // 2 + 1
    return torch.arange(half) < (max(1, half - (int(half * compression) + 1)) if compression else half)


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
    compression: float = 0.0,
    fft_size: FftSize = "paper",
) -> Tensor:
    """Compute the layer's definition for series (batch, channels, W), one output channel at a time."""
    span = (weight.shape[2] - 1) * dilation + 1
    before, after = ((span - 1) // 2, span // 2) if padding == "same" else (int(padding), int(padding))
    x = F.pad(x, (before, after))
    spread = weight.new_zeros(*weight.shape[:2], span)
    spread[..., ::dilation] = weight
    padded = x.shape[-1]
    out = padded - span + 1
    if fft_size == "paper":
        size = power_of_two(padded + 2 * max(span - 1, out - 1))
    else:
        size = points(padded, span, fft_size)
    spectrum = torch.fft.rfft(x, n=size) * keep1d(size, compression)
    filters = torch.fft.rfft(spread, n=size).conj()
    each_in, each_out = weight.shape[1], weight.shape[0] // groups
    series = []
    for o in range(weight.shape[0]):
        first = o // each_out * each_in
        product = (spectrum[:, first : first + each_in] * filters[o]).sum(1)
        y = torch.fft.irfft(product, n=size)[..., :out:stride]
        series.append(y if bias is None else y + bias[o])
    return torch.stack(series, 1)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    compression: float = 0.0,
    fft_size: FftSize = "paper",
) -> Tensor:
    """Compute the layer's definition for (..., channels, H, W), one output channel at a time."""
    if not x.numel():  # torch 2.14's transforms on the CPU take no empty batch
        return conv2d(
            torch.cat([x, x.new_zeros(1, *x.shape[1:])]),
            weight,
            bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            compression=compression,
            fft_size=fft_size,
        )[:0]
    (before_h, after_h), (before_w, after_w) = pads(padding, weight.shape[2:], dilation)
    dilation, stride = pair(dilation), pair(stride)
    x = F.pad(x, (before_w, after_w, before_h, after_h))
    spread = weight.new_zeros(
        *weight.shape[:2], *[(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    )
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    out = [p - k + 1 for p, k in zip(x.shape[-2:], spread.shape[2:], strict=True)]
    size = [points(p, k, fft_size) for p, k in zip(x.shape[-2:], spread.shape[2:], strict=True)]
    mask = keep(size[0], compression)[:, None] & keep(size[1], compression)[None, :]
    spectrum = torch.fft.fft2(x, s=size) * mask
    filters = torch.fft.fft2(spread, s=size).conj()
    each_in, each_out = weight.shape[1], weight.shape[0] // groups
    maps = []
    for o in range(weight.shape[0]):
        first = o // each_out * each_in
        product = (spectrum[..., first : first + each_in, :, :] * filters[o]).sum(-3)
        y = torch.fft.ifft2(product).real[..., : out[0] : stride[0], : out[1] : stride[1]]
        maps.append(y if bias is None else y + bias[o])
    return torch.stack(maps, -3)
