"""Band-limited layers: drop-in replacements of torch's convolutions."""

import torch.nn.functional as F
from torch import Tensor, nn

from blconv.band import Band, FftSize, check_compression, check_fft_size
from blconv.functional import band_limited_conv2d, conv2d_band


class BandLimitedConv2d(nn.Conv2d):
    """A 2D convolution that keeps only the low frequencies of its input (paper section 3).

    Arguments as for `torch.nn.Conv2d`, and, as keywords, `compression` (nominal share of the spectrum
    that is dropped, 0 <= c < 1) and `fft_size` ("paper", "compact" or an int). Parameters and state
    dict are those of `nn.Conv2d`: the filters are ordinary spatial weights.

    Shapes: (batch, in_channels, H, W) or (in_channels, H, W) -> as `nn.Conv2d`.
    Raises `ValueError` for an illegal compression or fft_size.
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
        compression: float = 0.0,
        fft_size: FftSize = "paper",
    ) -> None:
        check_compression(compression)
        check_fft_size(fft_size)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device, dtype,  # type: ignore[arg-type]
        )  # fmt: skip
        self.compression = compression
        self.fft_size = fft_size

    @classmethod
    def of(cls, conv: nn.Conv2d, *, compression: float, fft_size: FftSize = "paper") -> "BandLimitedConv2d":
        """The band-limited twin of `conv`, with a copy of its parameters, device, dtype and mode."""
        padding = conv.padding if isinstance(conv.padding, str) else _pair(conv.padding)
        twin = cls(
            conv.in_channels, conv.out_channels, _pair(conv.kernel_size), _pair(conv.stride), padding,
            _pair(conv.dilation), conv.groups, conv.bias is not None, conv.padding_mode,
            conv.weight.device, conv.weight.dtype, compression=compression, fft_size=fft_size,
        )  # fmt: skip
        twin.load_state_dict(conv.state_dict())
        for name, parameter in conv.named_parameters():
            twin.get_parameter(name).requires_grad_(parameter.requires_grad)
        return twin.train(conv.training)

    def band(self, height: int, width: int) -> Band:
        """The band of this layer for an input of `height` x `width` pixels."""
        if self.padding_mode != "zeros":  # the input arrives padded
            left, right, top, bottom = self._reversed_padding_repeated_twice
            height, width = height + top + bottom, width + left + right
        return conv2d_band(
            (height, width), _pair(self.kernel_size), stride=self.stride, padding=self._zeros(),
            dilation=self.dilation, compression=self.compression, fft_size=self.fft_size,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own argument name)
        """Convolve `input`, (batch, in_channels, H, W) or (in_channels, H, W)."""
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)  # noqa: A001
        return band_limited_conv2d(
            input, self.weight, self.bias, stride=self.stride, padding=self._zeros(),
            dilation=self.dilation, groups=self.groups, compression=self.compression,
            fft_size=self.fft_size,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """torch's own line, then what this layer adds."""
        base: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{base}, compression={self.compression}, fft_size={self.fft_size!r}"

    def _zeros(self) -> tuple[int, ...] | str:
        return self.padding if self.padding_mode == "zeros" else (0, 0)


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]
