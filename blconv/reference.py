"""The definition of a band-limited convolution as literal code: transform, mask, multiply, transform back.

It is slow. The tests compare all other methods with it.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.band import FftSize
from blconv.functional import IntPair


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
    """Compute y = irfft2(mask * rfft2(pad(x)) * conj(rfft2(w))), cropped, then strided (paper section 3).

    The arguments, except `method`, and the result are those of `blconv.functional.band_limited_conv2d`. The
    sizes, the padding and the mask are computed here from their definitions, without the code that the tests
    compare with this function.
    """
    if x.dim() == 3:
        y = band_limited_conv2d(
            x[None], weight, bias, stride=stride, padding=padding, dilation=dilation,
            groups=groups, compression=compression, fft_size=fft_size,
        )  # fmt: skip
        return y[0]
    if not x.shape[0]:  # torch 2.14 cannot transform an empty batch on the CPU
        y = band_limited_conv2d(
            torch.cat([x, x.new_zeros(1, *x.shape[1:])]), weight, bias, stride=stride, padding=padding,
            dilation=dilation, groups=groups, compression=compression, fft_size=fft_size,
        )  # fmt: skip
        return y[:0]
    step, spread = _both(stride), _both(dilation)
    taps = [(weight.shape[2 + a] - 1) * spread[a] + 1 for a in (0, 1)]  # with the dilation's gaps
    if padding == "same":
        before = [(t - 1) // 2 for t in taps]
        after = [t - 1 - b for t, b in zip(taps, before, strict=True)]
    else:
        before = after = [0, 0] if padding == "valid" else list(_both(padding))  # type: ignore[arg-type]
    x = F.pad(x, (before[1], after[1], before[0], after[0]))
    dilated = weight.new_zeros(*weight.shape[:2], *taps)
    dilated[:, :, :: spread[0], :: spread[1]] = weight

    padded = x.shape[-2:]
    out = [p - t + 1 for p, t in zip(padded, taps, strict=True)]
    sizes = []
    for p, t, o in zip(padded, taps, out, strict=True):
        if fft_size == "paper":
            size = 1
            while size < p + max(o, t) - 1:
                size *= 2
        else:
            size = p if fft_size == "compact" else int(fft_size)
        sizes.append(size)
    mask = x.new_zeros(sizes[0], sizes[1] // 2 + 1)
    halves = [size // 2 + 1 for size in sizes]
    k = [max(1, int(half * (1 - compression) ** 0.5)) for half in halves]
    rows = torch.zeros(sizes[0], dtype=torch.bool, device=x.device)
    for f in range(k[0]):
        rows[f] = rows[-f] = True
    if k[0] == halves[0]:
        rows[:] = True
    mask[rows, : k[1]] = 1

    spectrum = torch.fft.rfft2(x, s=sizes) * mask
    filters = torch.fft.rfft2(dilated, s=sizes)
    batch, channels = x.shape[:2]
    spectrum = spectrum.view(batch, groups, channels // groups, *mask.shape)
    filters = filters.view(groups, -1, channels // groups, *mask.shape)
    product = torch.einsum("bgchw,gochw->bgohw", spectrum, filters.conj())
    y = torch.fft.irfft2(product.flatten(1, 2), s=sizes)
    y = y[..., : out[0] : step[0], : out[1] : step[1]]
    return cast(Tensor, y if bias is None else y + bias[:, None, None])


def _both(value: IntPair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
