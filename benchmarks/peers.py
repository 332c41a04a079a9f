"""The peers: one function for each way to compute the layer, or another layer of comparable cost.

A function takes x (batch, C, [H,] W), the weight (O, C, [K_h,] K_w), the layer and the cut, and returns y
(batch, O, [H_out,] W_out). Packages that are not installed raise `ImportError`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from shapes import Cut, Layer
from torch import Tensor

from blconv.band import AxisBand
from blconv.functional import band_limited_conv1d, band_limited_conv2d
from blconv.methods import paper
from blconv.methods.choice import Method, choose

Function = Callable[[Tensor, Tensor, Layer, Cut], Tensor]
NCHW, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


@dataclass(frozen=True)
class Peer:
    """A function and the memory layout of its input, weight and output gradient.

    With `spectral_weight` the weight is a complex number for each kept coefficient and pair of channels.
    """

    function: Function
    layout: torch.memory_format = NCHW
    spectral_weight: bool = False


def ordinary(x: Tensor, weight: Tensor, layer: Layer, cut: Cut) -> Tensor:
    """Compute torch's convolution: cuDNN on a GPU, oneDNN on a CPU."""
    convolution = F.conv1d if layer.dims == 1 else F.conv2d
    return convolution(x, weight, stride=layer.stride, padding=layer.padding)


def limited(method: Method, x: Tensor, weight: Tensor, layer: Layer, cut: Cut) -> Tensor:
    """Compute our layer by one of its methods; raise `NotImplementedError` if another one would be used."""
    if method not in ("auto", used := chosen(method, layer, cut, x.shape[0], x.dtype, x.device)):
        raise NotImplementedError(f"{used} stands in")
    convolution = band_limited_conv1d if layer.dims == 1 else band_limited_conv2d
    return convolution(
        x, weight, stride=layer.stride, padding=layer.padding, compression=cut.compression,
        fft_size=cut.fft_size, method=method,
    )  # fmt: skip


def published(product: paper.ProductName, x: Tensor, weight: Tensor, layer: Layer, cut: Cut) -> Tensor:
    """Compute our layer by the paper's algorithm; `product` selects the implementation of its products."""
    return paper.convolve(x, weight, layer.geometry(cut), product=product)


@lru_cache
def chosen(
    method: Method, layer: Layer, cut: Cut, batch: int, dtype: torch.dtype, device: torch.device
) -> str:
    """Return the method that computes our layer for the argument `method`."""
    x = torch.empty(layer.input_shape(batch), dtype=dtype, device=device)
    weight = torch.empty(layer.weight_shape, dtype=dtype, device=device)
    return choose(x, weight, layer.geometry(cut), method).method


def recipe(x: Tensor, weight: Tensor, layer: Layer, cut: Cut) -> Tensor:
    """Compute our layer by the paper's recipe: transform, crop, einsum, zero padding, inverse transform."""
    geometry = layer.geometry(cut)
    axes = geometry.band.axes
    dims, sizes = tuple(range(2, x.dim())), tuple(axis.size for axis in axes)
    zeros = [n for axis in reversed(axes) for n in (axis.before, axis.after)]
    z = torch.fft.rfftn(F.pad(x, zeros), s=sizes, dim=dims)
    v = torch.fft.rfftn(weight, s=sizes, dim=dims).conj()
    spectrum = z.new_zeros(z.shape[0], v.shape[0], *z.shape[2:])
    for corner in _corners(axes):
        spectrum[corner] = torch.einsum("bc...,oc...->bo...", z[corner], v[corner])
    steps = zip(geometry.out, geometry.stride, strict=True)
    wanted: list[Any] = [slice(0, (n - 1) * s + 1, s) for n, s in steps]
    return torch.fft.irfftn(spectrum, s=sizes, dim=dims)[(..., *wanted)]


def _corners(axes: tuple[AxisBand, ...]) -> list[tuple[Any, ...]]:
    """Return the slices of the kept coefficients in a one-sided spectrum: one, or two if rows are dropped."""
    columns = slice(0, axes[-1].kept)
    if len(axes) == 1 or not axes[0].is_cut:
        return [(..., columns)]
    rows = [slice(0, axes[0].kept), slice(axes[0].size - axes[0].kept + 1, axes[0].size)]
    return [(..., row, columns) for row in rows]


def complex_einsum(x: Tensor, weight: Tensor, layer: Layer, cut: Cut) -> Tensor:
    """Compute our layer in torch: complex matrices as transforms to the kept frequencies, and one einsum."""
    geometry = layer.geometry(cut)
    z, v = x.to(torch.complex64), weight.to(torch.complex64)
    for i, axis in enumerate(geometry.band.axes):  # tensordot moves each axis to the end, in order
        last = i == geometry.dims - 1
        z = torch.tensordot(z, _waves(axis, axis.length, axis.before, -1, last, x.device), ([2], [0]))
        v = torch.tensordot(v, _waves(axis, geometry.kernel[i], 0, 1, last, x.device), ([2], [0]))
    y = torch.einsum("bc...,oc...->bo...", z, v)
    for i, axis in enumerate(geometry.band.axes):
        last = i == geometry.dims - 1
        positions = (geometry.out[i] - 1) * geometry.stride[i] + 1
        waves = _waves(axis, positions, 0, 1, last, x.device)[:: geometry.stride[i]] / axis.size
        if last:  # of a pair of conjugate columns only one is kept
            frequency = torch.arange(axis.kept, device=x.device)
            waves = waves * torch.where((frequency == 0) | (2 * frequency == axis.size), 1.0, 2.0)
        y = torch.tensordot(y, waves, ([2], [1]))
    return y.real


@lru_cache
def _waves(axis: AxisBand, count: int, start: int, sign: int, last: bool, device: torch.device) -> Tensor:
    """Return exp(sign * 2 pi i f j / N), complex64 (positions, kept frequencies).

    N is the number of points of the transform. The positions j are the `count` ones from `start` on. The
    frequencies f are non-negative on the `last` axis, and of both signs on the other one.
    """
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        if last:
            frequency = torch.arange(axis.kept)
        else:
            frequency = torch.arange(1 - axis.kept, axis.kept) if axis.is_cut else torch.arange(axis.size)
        phase = torch.outer(torch.arange(start, start + count), frequency).double() * (
            2 * math.pi / axis.size
        )
        return torch.polar(torch.ones_like(phase), sign * phase).to(torch.complex64).to(device)


def fft_conv_pytorch(x: Tensor, weight: Tensor, layer: Layer, cut: Cut) -> Tensor:
    """Compute the ordinary convolution by complete transforms, with fft-conv-pytorch."""
    from fft_conv_pytorch import fft_conv

    return fft_conv(x, weight, stride=layer.stride, padding=layer.padding)


def neuraloperator(x: Tensor, weight: Tensor, layer: Layer, cut: Cut) -> Tensor:
    """Compute neuraloperator's SpectralConv with as many modes as our layer keeps: a layer of like cost."""
    if layer.stride > 1:
        raise NotImplementedError("stride 1 only")
    module = _spectral_conv(layer, cut, x.device)
    return torch.func.functional_call(module, {"weight.tensor": weight}, (x,))


@lru_cache
def _spectral_conv(layer: Layer, cut: Cut, device: torch.device) -> torch.nn.Module:
    from neuralop.layers.spectral_convolution import SpectralConv

    *rows, columns = layer.geometry(cut).band.kept_shape
    modes = (*rows, 2 * columns - 1)  # it keeps half of the last, and one
    return SpectralConv(layer.channels, layer.out_channels, modes, bias=False).to(device)


BASES = {
    "ordinary NCHW": Peer(ordinary),
    "ordinary channels_last": Peer(ordinary, CHANNELS_LAST),
}
PEERS = {
    "auto NCHW": Peer(partial(limited, "auto")),
    "auto channels_last": Peer(partial(limited, "auto"), CHANNELS_LAST),
    "lowpass NCHW": Peer(partial(limited, "lowpass")),
    "lowpass channels_last": Peer(partial(limited, "lowpass"), CHANNELS_LAST),
    "spectral NCHW": Peer(partial(limited, "spectral")),
    "spectral channels_last": Peer(partial(limited, "spectral"), CHANNELS_LAST),
    "dense NCHW": Peer(partial(limited, "dense")),
    "dense channels_last": Peer(partial(limited, "dense"), CHANNELS_LAST),
    "paper NCHW": Peer(partial(limited, "paper")),
    "paper channels_last": Peer(partial(limited, "paper"), CHANNELS_LAST),
    "paper's Hadamard kernel": Peer(partial(published, "hadamard")),
    "paper's SGEMM": Peer(partial(published, "sgemm")),
    "paper's recipe in torch": Peer(recipe),
    "complex einsum": Peer(complex_einsum),
    "fft-conv-pytorch": Peer(fft_conv_pytorch),
    "neuraloperator": Peer(neuraloperator, spectral_weight=True),
}
