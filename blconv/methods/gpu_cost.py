"""The estimated time of each method on a GPU, from the bytes to move and the operations to do.

The time is that of a forward and a backward pass in microseconds per image. The rates are round numbers that
were fitted to times of an H200 on the layers of a ResNet-18; those of torch's products were fitted to an H100
on maps of 112 x 112 and 224 x 224 pixels. The rates include the overhead of cuDNN and cuBLAS. Other GPUs have
other rates, but only the ratios of rates matter. The cost of transforming the filters and of launching
kernels is divided among `GPU_BATCH` images, because the choice of a method must not depend on the real batch
size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from blconv.geometry import Geometry
from blconv.kernels.limits import has_spectral_kernels, low_pass_planes_fit

GPU_BATCH = 256
# Bytes per microsecond of the methods without kernels of ours, on torch's products. The spectral method reads
# and writes its coefficients many times, most of them in the products of complex numbers.
PRODUCT_BYTES, COEFFICIENT_BYTES = 2.7e6, 0.076e6
LOW_PASS_PRODUCT_BYTES = 1.6e6
PRODUCT_MICROSECONDS = 150  # per call of "spectral" on torch's products, for their launches
# Microseconds per call for launching and ending all kernels.
LAUNCH_MICROSECONDS = {"ordinary": 30, "lowpass": 40, "spectral": 30, "dense": 15}


@dataclass(frozen=True)
class Rates:
    """The rates of a GPU: bytes per microsecond (with the suffix `_bytes`), or operations per microsecond.

    A multiply-add counts as two operations.
    """

    convolution: float
    product: float
    convolution_bytes: float
    transform_bytes: float
    low_pass_bytes: float
    filter_bytes: float


RATES = {
    "strict": Rates(45e6, 45e6, 2.5e6, 2.0e6, 2.0e6, 2e6),
    "tf32": Rates(320e6, 600e6, 2.5e6, 3.5e6, 2.6e6, 2e6),
    "half": Rates(900e6, 900e6, 3.5e6, 3.7e6, 2.6e6, 3e6),
}


def microseconds(
    filters: Sequence[int], dtype: torch.dtype, geometry: Geometry, allow_tf32: bool
) -> dict[str, float]:
    """Return the estimated microseconds per image by method, and of the ordinary convolution as "ordinary".

    `filters` is the weight's shape (O, C, K_h, K_w). The estimates are for 2D convolutions of one group. If
    our kernels do not support the sizes, "lowpass" and "spectral" are estimated on torch's products.
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
    operations = passes * pairs * math.prod(geometry.out) * math.prod(geometry.kernel) / rates.convolution
    pixels = math.prod(geometry.input) * math.prod(geometry.out)
    if low_pass_planes_fit(geometry.band, channels_last=True):
        filtering = 2 * (x + padded) / rates.low_pass_bytes
    else:  # one axis after the other
        filtering = 4 * (x + padded) / LOW_PASS_PRODUCT_BYTES
    if has_spectral_kernels(dtype, geometry):
        transforms = (2 * (x + z + out + y) + 3 * (z + out)) / rates.transform_bytes
    else:
        waves = 2 * size * geometry.band.axes[0].kept  # bytes that the first product writes per column
        between = waves * (channels * geometry.input[-1] + out_channels * geometry.out[-1])
        transforms = 2 * (x + y + 2 * between) / PRODUCT_BYTES + (z + out) / COEFFICIENT_BYTES
        transforms += PRODUCT_MICROSECONDS / GPU_BATCH
    costs = {
        "ordinary": operations + passes * (x + y) / rates.convolution_bytes,
        "lowpass": operations + passes * (padded + y) / rates.convolution_bytes + filtering,
        "spectral": transforms
        + passes * pairs * 2 * geometry.coefficients / rates.product
        + 6 * matrices / GPU_BATCH / rates.filter_bytes,
        "dense": passes * (pairs * pixels / rates.product + (x + y) / rates.transform_bytes)
        + 6 * size * pixels * pairs / 2 / GPU_BATCH / rates.filter_bytes,
    }
    return {method: cost + LAUNCH_MICROSECONDS[method] / GPU_BATCH for method, cost in costs.items()}
