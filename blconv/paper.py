"""The published algorithm (paper sections 3 and 6.1): transform, crop, multiply, pad, transform back.

It shows what was published and is a peer in the benchmarks. The product over the input channels is
the paper's matrix form: per frequency one complex product, made of three real ones.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.band import AxisBand
from blconv.geometry import Geometry


def convolve(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The band-limited convolution of x (batch, C, [H,] W) with weight (O, C, [K_h,] K_w); one group."""
    axes = geometry.band.axes
    dims = tuple(range(2, 2 + geometry.dims))
    sizes = tuple(axis.size for axis in axes)
    zeros = [n for axis in reversed(axes) for n in (axis.before, axis.after)]
    taps = tuple((k - 1) * d + 1 for k, d in zip(geometry.kernel, geometry.dilation, strict=True))
    dilated = weight.new_zeros(*weight.shape[:2], *taps)
    spread: list[Any] = [slice(None, None, d) for d in geometry.dilation]
    dilated[(..., *spread)] = weight

    z = crop(torch.fft.rfftn(F.pad(x, zeros), s=sizes, dim=dims), axes).flatten(2)
    v = crop(torch.fft.rfftn(dilated, s=sizes, dim=dims), axes).flatten(2)
    product = multiply(z.permute(2, 0, 1), v.conj().permute(2, 1, 0))  # (frequencies, batch, O)
    product = product.permute(1, 2, 0).reshape(x.shape[0], weight.shape[0], *geometry.band.kept_shape)
    y: Tensor = torch.fft.irfftn(pad(product, axes), s=sizes, dim=dims)
    steps = zip(geometry.out, geometry.stride, strict=True)
    wanted: list[Any] = [slice(0, (n - 1) * s + 1, s) for n, s in steps]
    return y[(..., *wanted)].contiguous()


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """The complex product a b of batches of matrices by three real ones (Gauss), as in paper 6.1."""
    first = torch.bmm(a.real + a.imag, b.real)
    second = torch.bmm(a.real, b.imag - b.real)
    third = torch.bmm(a.imag, b.real + b.imag)
    return torch.complex(first - third, first + second)


def crop(spectrum: Tensor, axes: tuple[AxisBand, ...]) -> Tensor:
    """The kept corner of a one-sided spectrum (..., [N_h,] N_w // 2 + 1)."""
    if len(axes) == 2 and axes[0].is_cut:
        k = axes[0].kept
        spectrum = torch.cat([spectrum[..., :k, :], spectrum[..., spectrum.shape[-2] - k + 1 :, :]], -2)
    return spectrum[..., : axes[-1].kept]


def pad(corner: Tensor, axes: tuple[AxisBand, ...]) -> Tensor:
    """The inverse of `crop`, with zeros for what was dropped."""
    corner = F.pad(corner, (0, axes[-1].half - axes[-1].kept))
    if len(axes) == 1 or not axes[0].is_cut:
        return corner
    k, size = axes[0].kept, axes[0].size
    middle = corner.new_zeros(*corner.shape[:-2], size - 2 * k + 1, corner.shape[-1])
    return torch.cat([corner[..., :k, :], middle, corner[..., k:, :]], -2)
