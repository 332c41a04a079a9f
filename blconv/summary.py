"""The table of a band-limited network: kept coefficients, method and cost of each layer."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from blconv.convert import band_limited_layers, evaluation_mode
from blconv.energy import EnergyBand
from blconv.geometry import Geometry
from blconv.layers import BandLimited
from blconv.methods.choice import Choice, choose, multiply_adds
from blconv.methods.mask import MASK_CHOICE


@dataclass(frozen=True)
class LayerCompression:
    """Kept coefficients, method and cost of one band-limited layer at the size of its input.

    `nominal` is the nominal compression, or None if the band was measured. `cost` is the multiply-adds per
    image by method. `coefficients` is the number of kept coefficients of the one-sided spectrum.
    """

    name: str
    in_channels: int
    out_channels: int
    nominal: float | None
    geometry: Geometry
    choice: Choice
    cost: dict[str, float]
    coefficients: int

    @property
    def input_size(self) -> tuple[int, ...]:
        """Height and width of the input without padding, or in 1D its length."""
        return self.geometry.input

    @property
    def effective(self) -> float:
        """Share of the coefficients of this layer's one-sided spectrum that is dropped."""
        return 1 - self.coefficients / self.geometry.band.full

    @property
    def fft_size(self) -> tuple[int, ...]:
        """Number of points of the transform on each axis."""
        return tuple(axis.size for axis in self.geometry.band.axes)

    @property
    def k(self) -> tuple[int, ...]:
        """Number of kept frequencies of each axis; empty for a fine cut, which keeps single coefficients."""
        return () if self.choice.method == "mask" else tuple(axis.kept for axis in self.geometry.band.axes)

    @property
    def kept(self) -> tuple[int, ...]:
        """Numbers of kept rows and columns of the one-sided spectrum; for a fine cut, of coefficients."""
        return (self.coefficients,) if self.choice.method == "mask" else self.geometry.band.kept_shape

    @property
    def saved(self) -> float:
        """Number of values saved for the backward pass, divided by the number of values of the input.

        Filters are not counted. With the method "spectral" our CUDA kernels save slightly fewer values.
        """
        inputs = math.prod(self.geometry.input)
        if self.choice.method == "spectral":
            return 2 * self.geometry.coefficients / inputs
        if self.choice.method == "paper":
            return 2 * self.geometry.band.kept / inputs
        if self.choice.method in ("lowpass", "mask"):  # the filtered input, with its padding
            return math.prod(axis.padded for axis in self.geometry.band.axes) / inputs
        return 1.0

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds per image, divided by those of the ordinary convolution; 1 if they are not known."""
        return self.cost.get(self.choice.method, self.cost["ordinary"]) / self.cost["ordinary"]


@dataclass(frozen=True)
class NetworkCompression:
    """The table of a network's band-limited layers, and the effective compression of the network."""

    layers: tuple[LayerCompression, ...]

    @property
    def effective(self) -> float:
        """Share of the coefficients of all layers that is dropped, weighted by the layers' input channels.

        It is 0 if the network has no band-limited layers.
        """
        full = sum(layer.in_channels * layer.geometry.band.full for layer in self.layers)
        kept = sum(layer.in_channels * layer.coefficients for layer in self.layers)
        return 1 - kept / full if full else 0.0

    def __str__(self) -> str:
        """Return the table as text with one line per layer."""
        heads = ("layer", "input", "N", "k", "kept", "nominal", "effective", "method", "work", "saved")
        rows = [
            (
                layer.name, _join(layer.input_size), _join(layer.fft_size), _join(layer.k), _join(layer.kept),
                "-" if layer.nominal is None else f"{layer.nominal:.1%}", f"{layer.effective:.1%}",
                layer.choice.method, f"{layer.multiply_adds:.2f}", f"{layer.saved:.2f}",
            )
            for layer in self.layers
        ]  # fmt: skip
        widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        lines = [
            "  ".join(
                f"{cell:>{w}}" if i else f"{cell:<{w}}"
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in [heads, *rows]
        ]
        foot = "work, saved: multiply-adds and numbers saved for the backward pass, ordinary convolution = 1"
        return "\n".join([*lines, foot, f"network: effective compression {self.effective:.1%}"])


def summary(model: nn.Module, input_shape: tuple[int, ...]) -> NetworkCompression:
    """Return the table of all band-limited layers of `model` for inputs of `input_shape`.

    `input_shape` is ([batch,] C, W) or ([batch,] C, H, W). The model runs once on zeros in evaluation mode to
    record the size of each layer's input. A layer that the model calls twice has two lines and counts twice.
    Buffers and the training mode do not change.
    """
    found: list[LayerCompression] = []

    def record(name: str, layer: BandLimited, inputs: tuple[Tensor]) -> None:
        found.append(_describe(name, layer, inputs[0]))

    like = next(model.parameters(), torch.empty(0))
    with ExitStack() as stack:
        layers = band_limited_layers(model)
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(partial(record, name)).remove)
        stack.enter_context(evaluation_mode(model))
        batched = len(input_shape) == 2 + _dims(layers)
        shape = input_shape if batched else (1, *input_shape)
        model(torch.zeros(shape, dtype=like.dtype, device=like.device))
    return NetworkCompression(tuple(found))


effective_compression = summary  # the same table under the name of its main result


def explain(layer: BandLimited, input_shape: tuple[int, ...]) -> str:
    """Return the method that `layer` uses for inputs of `input_shape`, and the reason, as "method: reason".

    `input_shape` is ([batch,] C, [H,] W).
    """
    dims = len(layer.kernel_size)
    shape = input_shape if len(input_shape) == dims + 2 else (1, *input_shape)
    x = torch.empty(shape, dtype=layer.weight.dtype, device="meta")
    choice = _choice(layer, x, layer.geometry(*shape[-dims:]))
    return f"{choice.method}: {choice.reason}"


def _describe(name: str, layer: BandLimited, x: Tensor) -> LayerCompression:
    dims = len(layer.kernel_size)
    x = x if x.dim() == dims + 2 else x[None]
    geometry = layer.geometry(*x.shape[-dims:])
    measured = isinstance(layer.compression, EnergyBand) or layer.kept is not None
    nominal = None if measured else cast(float, layer.compression)
    choice = _choice(layer, x, geometry)
    cost = multiply_adds(layer.weight.shape, geometry)
    coefficients = geometry.band.kept if layer.mask is None else int(layer.mask.sum())
    return LayerCompression(
        name, layer.in_channels, layer.out_channels, nominal, geometry, choice, cost, coefficients
    )


def _choice(layer: BandLimited, x: Tensor, geometry: Geometry) -> Choice:
    return MASK_CHOICE if layer.is_fine else choose(x, layer.weight, geometry, layer.method)


def _dims(layers: dict[str, BandLimited]) -> int:
    return max((len(layer.kernel_size) for layer in layers.values()), default=2)


def _join(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes)) or "-"
