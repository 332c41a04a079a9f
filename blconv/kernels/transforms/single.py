"""Analysis (pixels to kept coefficients) and synthesis (back) of float32: both stages on tensor cores.

Layouts, for images of C channels and H x W pixels of which kh and kw frequencies are kept:

    x  (images, C, H, W) or (images, H, W, C)
    z  (Q, images, 2, C)   real and imaginary parts; operand of one product per frequency q

    q = u for v = 0 and u = 0 .. kh - 1 (the other half is conjugate), then, for v = 1 .. kw - 1,
    u = -(kh - 1) .. kh - 1. Where only the mean is kept, z is (1, images, 1, C).

A block owns one image and 8, 16 or 32 channels. Its first stage leaves T (positions along one axis, v, 2,
channels) in shared memory, and its second stage contracts the other axis. Both multiply a constant matrix by
columns that are channels, so that coefficients are read and written in whole vectors of channels for both
layouts of the images. Device memory is read once and written once, H W + 2 Q numbers per plane.

These are the kernels of float32; `half` has those of the 16-bit types.
"""

from functools import lru_cache

import torch
from torch import Tensor

from blconv.geometry import TransformAxis
from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.transforms import analysis as analysis_kernel
from blconv.kernels.transforms import synthesis as synthesis_kernel
from blconv.kernels.transforms.fragments import from_pixels, on_device, to_pixels, to_pixels_right
from blconv.kernels.transforms.planes import Float32Planes

SIGNATURE = ("float32*", "float32*", "float32*", "float32*", "int64")


@lru_cache(maxsize=256)
def analysis(planes: Float32Planes) -> Kernel:
    """Return the kernel (x, z, *analysis_tables, images), of images * planes.chunks blocks."""
    function = analysis_kernel.function(planes)
    return Kernel(function, SIGNATURE, 32 * planes.warps, planes.shared_bytes, planes)


@lru_cache(maxsize=256)
def synthesis(planes: Float32Planes) -> Kernel:
    """Return the kernel (z, y, *synthesis_tables, images), of images * planes.chunks blocks."""
    function = synthesis_kernel.function(planes)
    return Kernel(function, SIGNATURE, 32 * planes.warps, planes.shared_bytes, planes)


def analysis_tables(
    planes: Float32Planes, rows: TransformAxis, columns: TransformAxis, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the constants of an analysis: tables of the columns and the rows."""
    return (
        on_device(device, from_pixels, columns, -1, planes.vector, planes.split),
        on_device(device, from_pixels, rows, 1, 1, planes.split),
    )


def synthesis_tables(
    planes: Float32Planes, rows: TransformAxis, columns: TransformAxis, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the constants of a synthesis: tables of the rows and the columns."""
    if planes.channels_last:
        last = on_device(device, to_pixels, columns, -1, planes.split)
    else:
        last = on_device(device, to_pixels_right, columns, -1, planes.vector, planes.split)
    return on_device(device, to_pixels, rows, 1, planes.split), last
