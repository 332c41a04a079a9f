"""The measured layers: convolutions of known networks, with compressions and transform sizes."""

from dataclasses import dataclass

from blconv.band import FftSize
from blconv.functional import geometry_of
from blconv.geometry import Geometry


@dataclass(frozen=True)
class Cut:
    """A nominal compression and a transform size."""

    compression: float
    fft_size: FftSize


@dataclass(frozen=True)
class Layer:
    """A convolution over maps of `size` x `size` pixels, or with `dims` 1 over series of `size` points.

    A map keeps its size at stride 1 (padding = kernel // 2); series have padding "same".
    """

    channels: int
    size: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    dims: int = 2

    @property
    def padding(self) -> int | str:
        """The argument `padding` of torch's convolutions."""
        return "same" if self.dims == 1 else self.kernel // 2

    def geometry(self, cut: Cut) -> Geometry:
        """Return the sizes of the band-limited convolution with this compression and transform size."""
        return geometry_of(
            (self.size,) * self.dims, (self.kernel,) * self.dims, stride=self.stride,
            padding=self.padding, compression=cut.compression, fft_size=cut.fft_size,
        )  # fmt: skip

    def input_shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the input, (batch, C, [H,] W)."""
        return (batch, self.channels, *(self.size,) * self.dims)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight, (O, C, [K_h,] K_w)."""
        return (self.out_channels, self.channels, *(self.kernel,) * self.dims)

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.channels}>{self.out_channels} @{self.size} k{self.kernel}{stride}"


@dataclass(frozen=True)
class Group:
    """Layers that share a table, their cuts, and the batch size of the measurements on a GPU."""

    layers: tuple[Layer, ...]
    cuts: tuple[Cut, ...]
    batch: int = 512


HALF_AND_MORE = (Cut(0.5, "compact"), Cut(0.85, "compact"))
BOTH_SIZES = (*HALF_AND_MORE, Cut(0.5, "paper"), Cut(0.85, "paper"))
WIDE, AUTHORS = "ResNet-18, wide", "ResNet-18, the authors'"
GROUPS = {
    WIDE: Group(
        (Layer(64, 32, 64), Layer(128, 16, 128), Layer(256, 8, 256), Layer(512, 4, 512)),
        (
            Cut(0.5, "compact"),
            Cut(0.75, "compact"),
            Cut(0.85, "compact"),
            Cut(0.5, "paper"),
            Cut(0.85, "paper"),
        ),
    ),
    AUTHORS: Group(  # their max-pool comes before the first block; fft50 and fft85 are 0.48 and 0.84
        (Layer(64, 16, 64), Layer(128, 8, 128), Layer(256, 4, 256), Layer(512, 2, 512)),
        (Cut(0.48, "compact"), Cut(0.84, "compact"), Cut(0.48, "paper"), Cut(0.84, "paper")),
    ),
    "ResNet-18, strided": Group(
        (Layer(64, 16, 128, stride=2), Layer(128, 8, 256, stride=2), Layer(256, 4, 512, stride=2)),
        HALF_AND_MORE,
    ),
    "ResNet-50": Group(
        (Layer(64, 56, 64), Layer(128, 28, 128), Layer(256, 14, 256), Layer(512, 7, 512)), BOTH_SIZES, 64
    ),
    "Wide ResNet-28-10": Group(
        (Layer(160, 32, 160), Layer(320, 16, 320), Layer(640, 8, 640)), BOTH_SIZES, 128
    ),
    "DenseNet, growth 12": Group(
        (Layer(48, 32, 12), Layer(48, 16, 12), Layer(48, 8, 12), Layer(216, 16, 48, kernel=1)), BOTH_SIZES
    ),
    "large maps": Group(  # of VGG and the first layer of a ResNet
        (Layer(64, 112, 64), Layer(32, 224, 32), Layer(3, 224, 64, kernel=7, stride=2)), BOTH_SIZES, 64
    ),
    "ResNet-20": Group((Layer(16, 32, 16), Layer(32, 16, 32), Layer(64, 8, 64)), BOTH_SIZES),
    "DenseNet-121": Group(  # the authors limit its 1x1 convolutions too
        (Layer(128, 32, 32), Layer(128, 16, 32), Layer(128, 8, 32), Layer(256, 16, 128, kernel=1)),
        HALF_AND_MORE,
    ),
    "large filters": Group(
        (Layer(64, 32, 64, kernel=7), Layer(128, 16, 128, kernel=7), Layer(64, 32, 64, kernel=11)),
        HALF_AND_MORE,
    ),
    "FCN on series": Group(  # Wang et al. 2017, on series of 270 points as in UCR's 50words
        (
            Layer(1, 270, 128, kernel=8, dims=1),
            Layer(128, 270, 256, kernel=5, dims=1),
            Layer(256, 270, 128, kernel=3, dims=1),
        ),
        HALF_AND_MORE,
    ),
}
