"""Functions for whole networks: band-limit them, change their compression, calibrate their bands."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from blconv.band import FftSize
from blconv.energy import EnergyBand, coefficient_power, spectral_power
from blconv.fused.block import BlockConv2d, use_fused_norm_relu
from blconv.fused.max_pool import use_fused_max_pool
from blconv.fused.relu_followers import norms_followed_by_relu
from blconv.layers import BandLimited, BandLimitedConv1d, BandLimitedConv2d
from blconv.methods.choice import Method

Convolution = nn.Conv1d | nn.Conv2d
LayerFilter = Callable[[str, Convolution], bool]

REPLACEMENTS: dict[type, type[BandLimited]] = {
    nn.Conv1d: BandLimitedConv1d,
    nn.Conv2d: BandLimitedConv2d,
    BandLimitedConv1d: BandLimitedConv1d,
    BandLimitedConv2d: BandLimitedConv2d,
    BlockConv2d: BandLimitedConv2d,
}


def is_spatial(name: str, conv: Convolution) -> bool:
    """Return whether a convolution has more than one tap.

    Convolutions of one tap (1x1), such as the shortcuts of a ResNet, are not band-limited by the authors.
    """
    return set(conv.kernel_size) != {1}


def no_layer(name: str, conv: Convolution) -> bool:
    """Return False for every layer: the default of the argument `exclude` of `band_limit`."""
    return False


def band_limit(
    model: nn.Module,
    compression: float | EnergyBand,
    *,
    fft_size: FftSize = "paper",
    method: Method = "auto",
    include: LayerFilter = is_spatial,
    exclude: LayerFilter = no_layer,
    fuse: bool = False,
) -> nn.Module:
    """Replace the model's 1D and 2D convolutions by band-limited ones with the same weights.

    The model is changed in place and returned. Only the class of a layer changes; its parameters and hooks
    stay, so an existing optimizer remains valid. A convolution is replaced if `include(name, convolution)` is
    true and `exclude(name, convolution)` is false; by default 1x1 convolutions stay as they are. Layers that
    are already band-limited get the new settings. Other subclasses of torch's convolutions do not change,
    because the code of the subclass would be lost. Transposed and 3D convolutions do not change either. Paper
    section 4.

    `fuse` reduces the memory of training (`blconv.fused.block`) with the same results and state dict. An
    `nn.BatchNorm2d` after a band-limited convolution of the method "spectral" then saves for the backward
    pass the kept coefficients of its input instead of the input itself, if these are fewer. An `nn.ReLU`
    saves one bit per element, and an `nn.MaxPool2d` one byte per output. If the output of a BatchNorm goes to
    one ReLU and nowhere else, the two layers become one step. A trace of the model finds these pairs; if the
    model cannot be traced, a warning is given and no layers are joined. ReLUs and max-pools that are called
    as functions do not change.

    Raises `ValueError` for an illegal compression, fft_size or method.
    """
    BandLimitedConv2d(1, 1, 1).configure(compression, fft_size, method)  # raises before anything changes
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) not in REPLACEMENTS:
            continue
        assert isinstance(module, Convolution)
        if include(name, module) and not exclude(name, module):
            # Only the class changes: optimizers, tied weights and pruning masks keep their references.
            new = REPLACEMENTS[type(module)]
            module.__class__ = BlockConv2d if fuse and new is BandLimitedConv2d else new  # type: ignore[assignment]
            assert isinstance(module, BandLimited)
            module.configure(compression, fft_size, method)
    if fuse:
        use_fused_norm_relu(model, norms_followed_by_relu(model))
        use_fused_max_pool(model)
    return model


def set_compression(
    model: nn.Module, compression: float | EnergyBand | Mapping[str, float | EnergyBand]
) -> None:
    """Change the compression of every band-limited layer, or, given a mapping, of the layers that it names.

    Calibrated bands of the changed layers are discarded. Raises `ValueError` for an illegal compression,
    for a name that is not that of a band-limited layer, and for a model without band-limited layers.
    """
    layers = _required_layers(model)
    if isinstance(compression, Mapping):
        chosen = dict(compression)
        unknown = sorted(set(chosen) - set(layers))
        if unknown:
            legal = ", ".join(layers)
            raise ValueError(f"compression names {unknown[0]!r}; band-limited layers are {legal}")
    else:
        chosen = dict.fromkeys(layers, compression)
    for value in chosen.values():
        BandLimitedConv2d(1, 1, 1).configure(value, "paper", "auto")  # raises before anything changes
    for name, value in chosen.items():
        layers[name].configure(value, layers[name].fft_size, layers[name].method)


def calibrate(
    model: nn.Module, batches: Iterable[Tensor], *, energy: float | None = None
) -> dict[str, tuple[int, ...] | Tensor]:
    """Measure a fixed band for every band-limited layer: "energy, then static" (paper 6.2.5).

    Runs the model in evaluation mode on `batches` of its inputs. Each layer keeps the smallest low-frequency
    corner of the spectrum that holds the share `energy` of the energy of all its inputs so far. By default,
    `energy` is that of the layer's `EnergyBand`. With a fine cut, the layer keeps the smallest set of
    coefficients instead of a corner. Every layer is limited to its band from the first batch on, so the
    layers after it measure the limited signal. Returns, by layer name, the number of kept frequencies of each
    axis, or the mask of the kept coefficients. At the end the training mode of the model is restored.

    Raises `ValueError` if the model has no band-limited layer, if there are no batches, if `energy` is None
    and a layer has no `EnergyBand`, and if the inputs of a layer have several sizes.
    """
    powers: dict[str, Tensor] = {}
    kept: dict[str, tuple[int, ...] | Tensor] = {}
    layers, targets = _required_layers(model), {}
    for name, layer in layers.items():
        if isinstance(layer.compression, EnergyBand):
            targets[name] = layer.compression if energy is None else replace(layer.compression, energy=energy)
        elif energy is not None:
            targets[name] = EnergyBand(energy)
        else:
            raise ValueError(f"layer {name!r} has a fixed compression: give calibrate an energy")

    def measure(name: str, module: BandLimited, inputs: tuple[Tensor]) -> None:
        whole = module.geometry(*inputs[0].shape[-len(module.kernel_size) :])
        power_of = coefficient_power if module.is_fine else spectral_power
        power = power_of(module.padded(inputs[0]), whole)
        if name in powers and powers[name].shape != power.shape:
            raise ValueError(f"layer {name!r} gets inputs of several sizes: calibrate with one size")
        powers[name] = powers[name] + power if name in powers else power
        if module.is_fine:
            kept[name] = module.mask = targets[name].mask(powers[name], whole)
        else:
            kept[name] = module.kept = targets[name].kept(powers[name])

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(partial(measure, name)).remove)
        stack.enter_context(evaluation_mode(model))
        for batch in batches:
            model(batch)
    if not powers:
        raise ValueError("calibrate got no batches: pass at least one")
    return kept


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context in which the model is in evaluation mode and no gradients are recorded.

    On exit the training mode of every module is restored.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def band_limited_layers(model: nn.Module) -> dict[str, BandLimited]:
    """Return the band-limited layers of a model by their module names."""
    return {n: m for n, m in model.named_modules() if isinstance(m, BandLimited)}


def _required_layers(model: nn.Module) -> dict[str, BandLimited]:
    layers = band_limited_layers(model)
    if not layers:
        raise ValueError("the model has no band-limited layer; make some with band_limit(model, compression)")
    return layers
