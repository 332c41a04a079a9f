"""Band-limited layers: drop-in replacements for torch's convolutions."""

from dataclasses import replace
from typing import Any, Self, cast

import torch.nn.functional as F
from torch import Tensor, nn

from blconv.band import Band, FftSize, check_compression, check_fft_size
from blconv.energy import EnergyBand, coefficient_power, spectral_power
from blconv.functional import convolve, geometry_of
from blconv.geometry import Geometry
from blconv.methods import mask
from blconv.methods.choice import Method, check_method

NOT_CALIBRATED = "an EnergyBand needs a fixed band in evaluation: run blconv.calibrate"


class BandLimited(nn.modules.conv._ConvNd):
    """Mixin with the common part of the band-limited layers.

    `compression` is the nominal share of the spectrum that is dropped, in [0, 1), or an `EnergyBand`.
    `blconv.calibrate` sets `kept`, the number of kept frequencies of each axis. For an `EnergyBand` with a
    fine cut, `blconv.calibrate` sets `mask` instead, which is True for the kept coefficients of the one-sided
    spectrum. A calibrated layer uses `kept` or `mask` in place of `compression`, except that an `EnergyBand`
    in training still measures every batch. `mask` moves with the layer to other devices but is not in its
    state dict.
    """

    compression: float | EnergyBand
    fft_size: FftSize
    method: Method
    kept: tuple[int, ...] | None
    mask: Tensor | None

    def configure(self, compression: float | EnergyBand, fft_size: FftSize, method: Method) -> Self:
        """Check and set the options that torch's convolutions do not have; discard calibrated bands.

        Returns the layer itself. Raises `ValueError` for an illegal option.
        """
        if not isinstance(compression, EnergyBand):
            check_compression(compression)
        check_fft_size(fft_size)
        check_method(method)
        self.compression, self.fft_size, self.method, self.kept = compression, fft_size, method, None
        self.register_buffer("mask", None, persistent=False)
        return self

    @classmethod
    def of(
        cls,
        conv: nn.modules.conv._ConvNd,
        *,
        compression: float | EnergyBand,
        fft_size: FftSize = "paper",
        method: Method = "auto",
    ) -> Self:
        """Return a band-limited layer with the settings of `conv` and copies of its parameters.

        Device, dtype and training mode are those of `conv`. Raises `ValueError` for an illegal option.
        """
        options: Any = (
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
            conv.dilation, conv.groups, conv.bias is not None, conv.padding_mode, "meta",
        )  # fmt: skip
        # On the meta device, so that no random numbers are drawn for weights that are then replaced.
        layer = cls(*options).configure(compression, fft_size, method)
        for name, parameter in conv.named_parameters():
            layer.register_parameter(name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
        return layer.train(conv.training)

    def geometry(self, *input_size: int, kept: tuple[int, ...] | None = None) -> Geometry:
        """Return the sizes of this layer for an input of `input_size`, (W,) or (H, W) without padding.

        `kept` is the number of kept frequencies of each axis, by default `self.kept`. If both are None, the
        sizes are those for `compression`; for an `EnergyBand` they are those without any dropped frequency.
        """
        padding: Any = self.padding
        if self.padding_mode != "zeros":  # the method `padded` adds it
            around = self._reversed_padding_repeated_twice
            pairs = zip(around[::2], around[1::2], strict=True)
            totals = [before + after for before, after in pairs][::-1]
            input_size = tuple(n + total for n, total in zip(input_size, totals, strict=True))
            padding = 0
        geometry = geometry_of(
            input_size, self.kernel_size, stride=self.stride, padding=padding, dilation=self.dilation,
            groups=self.groups, fft_size=self.fft_size,
            compression=0.0 if isinstance(self.compression, EnergyBand) else self.compression,
        )  # fmt: skip
        kept = kept or self.kept
        if kept is None:
            return geometry
        axes = zip(geometry.band.axes, kept, strict=True)
        return replace(geometry, band=Band(tuple(a._replace(kept=min(k, a.half)) for a, k in axes)))

    @property
    def is_fine(self) -> bool:
        """Whether the layer keeps single coefficients instead of whole rows and columns."""
        return isinstance(self.compression, EnergyBand) and self.compression.cut == "fine"

    def padded(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return `input` with its padding; zero padding is not added here but by the convolution itself."""
        if self.padding_mode == "zeros":
            return input
        return F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own argument name)
        """Convolve `input`, (batch, in_channels, [H,] W) or (in_channels, [H,] W).

        Raises `RuntimeError` in evaluation if the layer has an `EnergyBand` and was not calibrated. A layer
        with `EnergyBand(cut="fine")` also raises it if it was calibrated on inputs of another size.
        """
        if self.compression == 0 and self.kept is None:
            return cast(Tensor, super().forward(input))
        size = input.shape[-len(self.kernel_size) :]
        padded = self.padded(input)
        measured = None
        if isinstance(self.compression, EnergyBand):
            if self.is_fine:
                return self._convolve_fine(padded, self.geometry(*size))
            if self.training:
                measured = self.compression.kept(spectral_power(padded, self.geometry(*size)))
            elif self.kept is None:
                raise RuntimeError(NOT_CALIBRATED)
        geometry = self.geometry(*size, kept=measured)
        if not geometry.band.is_cut:
            return cast(Tensor, super().forward(input))
        return self.convolve(padded, geometry)

    def convolve(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Compute the convolution in the band of `geometry`; x is an output of the method `padded`."""
        return convolve(x, self.weight, self.bias, geometry, self.method)

    def _convolve_fine(self, padded: Tensor, whole: Geometry) -> Tensor:
        """Compute the convolution with single kept coefficients.

        In training, the coefficients are selected by the energy of the batch; in evaluation, the calibrated
        coefficients are used. `padded` is an output of the method `padded`, and `whole` is the geometry that
        keeps all frequencies.
        """
        kept = self.mask
        if self.training:
            assert isinstance(self.compression, EnergyBand)
            kept = self.compression.mask(coefficient_power(padded, whole), whole)
        elif kept is None:
            raise RuntimeError(NOT_CALIBRATED)
        return mask.convolve(padded, self.weight, self.bias, kept, whole)

    def extra_repr(self) -> str:
        """Return torch's description of the layer, extended by the options of this class."""
        base: str = super().extra_repr()  # type: ignore[no-untyped-call]
        kept = f", kept={self.kept}" if self.kept else ""
        if self.mask is not None:  # counting the kept coefficients would synchronise the device
            kept = f", mask={tuple(self.mask.shape)}"
        method = f", method={self.method!r}" if self.method != "auto" else ""
        return f"{base}, compression={self.compression}, fft_size={self.fft_size!r}{method}{kept}"


class BandLimitedConv1d(BandLimited, nn.Conv1d):
    """A 1D convolution that keeps only the low frequencies of its input (paper sections 3, 6.3).

    The arguments up to `dtype` are those of `torch.nn.Conv1d`, and so are the shapes: the input is
    (batch, in_channels, W) or (in_channels, W). The keywords `compression`, `fft_size` and `method`, and the
    errors, are those of `BandLimitedConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: object = None,
        dtype: object = None,
        *,
        compression: float | EnergyBand = 0.0,
        fft_size: FftSize = "paper",
        method: Method = "auto",
    ) -> None:
        nn.Conv1d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device, dtype,  # type: ignore[arg-type]
        )  # fmt: skip
        self.configure(compression, fft_size, method)


class BandLimitedConv2d(BandLimited, nn.Conv2d):
    """A 2D convolution that keeps only the low frequencies of its input (paper section 3).

    The arguments up to `dtype` are those of `torch.nn.Conv2d`, and so are the shapes: the input is
    (batch, in_channels, H, W) or (in_channels, H, W). The keywords are `compression` (the nominal share of
    the spectrum that is dropped, in [0, 1), or an `EnergyBand`), `fft_size` ("paper", "compact" or an int)
    and `method` ("auto", "lowpass", "spectral", "dense" or "paper"); see
    `blconv.functional.band_limited_conv2d`. Parameters and state dict are those of `nn.Conv2d`: the filters
    are ordinary spatial weights.

    Raises `ValueError` for an illegal compression, fft_size or method.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: object = None,
        dtype: object = None,
        *,
        compression: float | EnergyBand = 0.0,
        fft_size: FftSize = "paper",
        method: Method = "auto",
    ) -> None:
        nn.Conv2d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device, dtype,  # type: ignore[arg-type]
        )  # fmt: skip
        self.configure(compression, fft_size, method)
