"""What a method costs on a GPU, from the bytes it must move and the operations it must do.

Forward and backward pass of one image, in microseconds. The rates are round numbers fitted to an H200 on
the layers of a ResNet-18, cuDNN's and cuBLAS's own inefficiency included; those of "strict" are a guess
and those of "half" older than its kernels. Other GPUs have others, but it is the ratios that decide.
What the filters cost is shared by a batch of `BATCH`, whatever the batch is, because a method must not
depend on how many images are asked about at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from blconv.geometry import Geometry

BATCH = 256


@dataclass(frozen=True)
class Rates:
    """Operations a microsecond (two a multiply-add) and bytes a microsecond."""

    convolution: float
    product: float
    convolution_bytes: float
    transform_bytes: float


RATES = {
    "strict": Rates(45e6, 45e6, 2.7e6, 2.6e6),
    "tf32": Rates(260e6, 240e6, 2.7e6, 2.9e6),
    "half": Rates(850e6, 480e6, 2.7e6, 2.5e6),
}


def microseconds(
    filters: Sequence[int], dtype: torch.dtype, geometry: Geometry, allow_tf32: bool
) -> dict[str, float]:
    """The cost of an image by method, and of the ordinary convolution ("ordinary"); one group.

    `filters` is the weight's shape (O, C, K_h, K_w).
    """
    precision = "half" if dtype.itemsize == 2 else "tf32" if allow_tf32 else "strict"
    out_channels, group_channels, *_ = filters
    size = dtype.itemsize
    rates, passes = RATES[precision], 3  # forward, and backward to the input and to the filters
    channels = group_channels * geometry.groups
    x = size * channels * math.prod(geometry.input)
    y = size * out_channels * math.prod(geometry.out)
    padded = size * channels * math.prod([axis.padded for axis in geometry.band.axes])
    kept = 2 * geometry.coefficients
    z, out = size * channels * kept, size * out_channels * kept
    matrices = size * 2 * kept * out_channels * group_channels
    pairs = 2 * out_channels * group_channels
    direct = passes * (
        pairs * math.prod(geometry.out) * math.prod(geometry.kernel) / rates.convolution
        + (x + y) / rates.convolution_bytes
    )
    pixels = math.prod(geometry.input) * math.prod(geometry.out)
    return {
        "ordinary": direct,
        "lowpass": direct + 2 * (x + padded) / rates.transform_bytes,
        "spectral": (2 * (x + z + out + y) + 3 * (z + out) + 6 * matrices / BATCH) / rates.transform_bytes
        + passes * pairs * 2 * kept / rates.product,
        "dense": passes * (pairs * pixels / rates.product + (x + y) / rates.transform_bytes)
        + 6 * size * pixels * pairs / 2 / BATCH / rates.transform_bytes,
    }
