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
    """Kept coefficients, method and cost of one band-limited layer at the size of its input."""

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
        """Height and width, or the length, of the input without padding."""
        return self.geometry.input

    @property
    def effective(self) -> float:
        """Share of this layer's coefficients that is dropped."""
        return 1 - self.coefficients / self.geometry.band.full

    @property
    def fft_size(self) -> tuple[int, ...]:
        """N of each axis."""
        return tuple(axis.size for axis in self.geometry.band.axes)

    @property
    def k(self) -> tuple[int, ...]:
        """Kept frequencies of each axis; empty for a fine-grained set, which has no such bounds."""
        return () if self.choice.method == "mask" else tuple(axis.kept for axis in self.geometry.band.axes)

    @property
    def kept(self) -> tuple[int, ...]:
        """Kept rows and columns of the one-sided spectrum, or the size of a fine-grained set."""
        return (self.coefficients,) if self.choice.method == "mask" else self.geometry.band.kept_shape

    @property
    def saved(self) -> float:
        """Number of values saved for the backward pass, divided by that of the input."""
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
        """Multiply-adds of one image, divided by those of the ordinary convolution; 1 if unknown."""
        return self.cost.get(self.choice.method, self.cost["ordinary"]) / self.cost["ordinary"]


@dataclass(frozen=True)
class NetworkCompression:
    """Effective compression of a network and of each of its band-limited layers."""

    layers: tuple[LayerCompression, ...]

    @property
    def effective(self) -> float:
        """1 - kept / full coefficients over the layers, weighted by input channels; 0 without any."""
        full = sum(layer.in_channels * layer.geometry.band.full for layer in self.layers)
        kept = sum(layer.in_channels * layer.coefficients for layer in self.layers)
        return 1 - kept / full if full else 0.0

    def __str__(self) -> str:
        """Return a table with one line per layer."""
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
    """Return the table of every band-limited layer of `model` for inputs of `input_shape`.

    Shapes are ([batch,] C, W) or ([batch,] C, H, W). Runs one forward pass on zeros in evaluation mode to
    record each layer's input; a layer that is called twice counts twice. Buffers and the training mode do
    not change.
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
    """Return the method for `layer` on inputs of `input_shape`, ([batch,] C, [H,] W), and its reason."""
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
