"""Band-limited layers: drop-in replacements of torch's convolutions."""

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

    `compression` is nominal, in [0, 1), or an `EnergyBand`. `blconv.calibrate` sets `kept`, the kept
    frequencies of each axis, or for a fine cut `mask`, the kept coefficients of the one-sided spectrum;
    these then replace `compression`. `mask` moves with the layer but is not in its state dict.
    """

    compression: float | EnergyBand
    fft_size: FftSize
    method: Method
    kept: tuple[int, ...] | None
    mask: Tensor | None

    def configure(self, compression: float | EnergyBand, fft_size: FftSize, method: Method) -> Self:
        """Check and set the options that an ordinary convolution does not have."""
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
        """Return a band-limited layer with copied parameters, device, dtype and training mode of `conv`."""
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

        `kept`, by default `self.kept`, are the kept frequencies of each axis. Without both, an
        `EnergyBand` keeps all frequencies.
        """
        padding: Any = self.padding
        if self.padding_mode != "zeros":  # `padded` has added it
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
        """Whether the layer selects single coefficients instead of rows and columns."""
        return isinstance(self.compression, EnergyBand) and self.compression.cut == "fine"

    def padded(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the input with its padding, except for zero padding, which is part of the geometry."""
        if self.padding_mode == "zeros":
            return input
        return F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own argument name)
        """Convolve `input`, (batch, in_channels, [H,] W) or without the batch.

        Raises `RuntimeError` in evaluation if an `EnergyBand` was not calibrated, or if one with a fine
        cut was calibrated on inputs of another size.
        """
        if self.compression == 0 and self.kept is None:
            return cast(Tensor, super().forward(input))
        size = input.shape[-len(self.kernel_size) :]
        padded = self.padded(input)
        if self.is_fine:
            return self._convolve_fine(padded, self.geometry(*size))
        measured = None
        if isinstance(self.compression, EnergyBand):
            if self.training:
                measured = self.compression.kept(spectral_power(padded, self.geometry(*size)))
            elif self.kept is None:
                raise RuntimeError(NOT_CALIBRATED)
        geometry = self.geometry(*size, kept=measured)
        if not geometry.band.is_cut:
            return cast(Tensor, super().forward(input))
        return self.convolve(padded, geometry)

    def convolve(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Compute the convolution of x, an output of the method `padded`, in the band of `geometry`."""
        return convolve(x, self.weight, self.bias, geometry, self.method)

    def _convolve_fine(self, padded: Tensor, whole: Geometry) -> Tensor:
        """Compute the convolution with the coefficients of the batch, in evaluation the calibrated ones."""
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

    Arguments as for `torch.nn.Conv1d`, and those of `BandLimitedConv2d`.
    Shapes: (batch, in_channels, W) or (in_channels, W) -> as `nn.Conv1d`.
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

    Arguments as for `torch.nn.Conv2d`, and, as keywords, `compression` (nominal share of the spectrum
    that is dropped, 0 <= c < 1, or an `EnergyBand`), `fft_size` ("paper", "compact" or an int) and
    `method` (`blconv.methods.choice`). Parameters and state dict are those of `nn.Conv2d`: the filters are
    ordinary spatial weights.

    Shapes: (batch, in_channels, H, W) or (in_channels, H, W) -> as `nn.Conv2d`.
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
