"""Band-limit a whole network, change its compression, and say what that amounts to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blconv.band import Band, FftSize, check_compression, check_fft_size
from blconv.layers import BandLimitedConv2d

LayerFilter = Callable[[str, nn.Conv2d], bool]


def is_spatial(name: str, conv: nn.Conv2d) -> bool:
    """Whether a convolution has more than one tap: the authors leave 1x1 shortcuts as they are."""
    return conv.kernel_size != (1, 1)


def no_layer(name: str, conv: nn.Conv2d) -> bool:
    """Exclude nothing."""
    return False


def band_limit(
    model: nn.Module,
    compression: float,
    *,
    fft_size: FftSize = "paper",
    include: LayerFilter = is_spatial,
    exclude: LayerFilter = no_layer,
) -> nn.Module:
    """Replace the model's 2D convolutions by band-limited ones with the same weights (paper section 4).

    The model is changed in place and returned; where `model` itself is a convolution, its twin is
    returned. A convolution that stands in several places stays one layer. `include` and `exclude` are
    functions of (name, convolution); the default leaves 1x1 convolutions alone. Layers that are
    band-limited already get the new settings. Subclasses of `nn.Conv2d` other than ours are left
    alone, because what they add would be lost.

    Raises `ValueError` for an illegal compression or fft_size.
    """
    check_compression(compression)
    check_fft_size(fft_size)
    twins: dict[nn.Module, BandLimitedConv2d] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) not in (nn.Conv2d, BandLimitedConv2d):
            continue
        assert isinstance(module, nn.Conv2d)
        if not include(name, module) or exclude(name, module):
            continue
        if module not in twins:
            twins[module] = BandLimitedConv2d.of(module, compression=compression, fft_size=fft_size)
        if not name:
            return twins[module]
        model.set_submodule(name, twins[module])
    return model


def set_compression(model: nn.Module, compression: float | Mapping[str, float]) -> None:
    """Change the compression of every band-limited layer, or of those named in a mapping.

    Raises `ValueError` for an illegal compression, for a name that is no band-limited layer, and for
    a model that has none.
    """
    layers = _band_limited_layers(model)
    if not layers:
        raise ValueError("the model has no band-limited layer; make some with band_limit(model, compression)")
    if isinstance(compression, Mapping):
        chosen = dict(compression)
        unknown = sorted(set(chosen) - set(layers))
        if unknown:
            raise ValueError(f"compression names {unknown[0]!r}; band-limited layers are {', '.join(layers)}")
    else:
        chosen = dict.fromkeys(layers, compression)
    for value in chosen.values():
        check_compression(value)
    for name, value in chosen.items():
        layers[name].compression = value


@dataclass(frozen=True)
class LayerCompression:
    """What one band-limited layer keeps at the map size that it sees."""

    name: str
    in_channels: int
    input_size: tuple[int, int]
    nominal: float
    band: Band

    @property
    def effective(self) -> float:
        """Share of this layer's coefficients that is dropped."""
        return self.band.effective_compression

    @property
    def fft_size(self) -> tuple[int, int]:
        """N of the rows and of the columns."""
        return self.band.rows.size, self.band.columns.size

    @property
    def k(self) -> tuple[int, int]:
        """Kept frequencies of the rows and of the columns."""
        return self.band.rows.kept, self.band.columns.kept

    @property
    def kept(self) -> tuple[int, int]:
        """Kept rows and columns of the one-sided spectrum."""
        return self.band.rows.two_sided, self.band.columns.kept


@dataclass(frozen=True)
class NetworkCompression:
    """The effective compression of a network and of each of its band-limited layers."""

    layers: tuple[LayerCompression, ...]

    @property
    def effective(self) -> float:
        """1 - kept / full coefficients over the layers, weighted by input channels; 0 without any."""
        full = sum(layer.in_channels * layer.band.full for layer in self.layers)
        kept = sum(layer.in_channels * layer.band.kept for layer in self.layers)
        return 1 - kept / full if full else 0.0

    def __str__(self) -> str:
        """A table for people: one line a layer."""
        width = max([len(layer.name) for layer in self.layers], default=5)
        lines = [f"{'layer':<{width}}  {'input':>9}  {'N':>9}  {'k':>7}  {'kept':>9}  nominal  effective"]
        lines += [
            f"{layer.name:<{width}}  {_size(layer.input_size):>9}  {_size(layer.fft_size):>9}  "
            f"{_size(layer.k):>7}  {_size(layer.kept):>9}  {layer.nominal:7.1%}  {layer.effective:9.1%}"
            for layer in self.layers
        ]
        return "\n".join([*lines, f"network: effective compression {self.effective:.1%}"])


def effective_compression(
    model: nn.Module, input_shape: tuple[int, int, int] | tuple[int, int, int, int]
) -> NetworkCompression:
    """The effective compression of `model` for inputs of `input_shape`, (C, H, W) or (batch, C, H, W).

    Runs one forward pass on zeros in evaluation mode to see each layer's map size; a layer that is
    called twice counts twice. Buffers and the training mode are left as they were.
    """
    found: list[LayerCompression] = []
    handles = []
    for name, layer in _band_limited_layers(model).items():

        def note(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            assert isinstance(module, BandLimitedConv2d)
            height, width = inputs[0].shape[-2:]
            band = module.band(height, width)
            found.append(
                LayerCompression(name, module.in_channels, (height, width), module.compression, band)
            )

        handles.append(layer.register_forward_pre_hook(note))
    modes = {module: module.training for module in model.modules()}
    shape = (1, *input_shape) if len(input_shape) == 3 else input_shape
    like = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(shape, dtype=like.dtype, device=like.device))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return NetworkCompression(tuple(found))


def _band_limited_layers(model: nn.Module) -> dict[str, BandLimitedConv2d]:
    return {n: m for n, m in model.named_modules() if isinstance(m, BandLimitedConv2d)}


def _size(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"
