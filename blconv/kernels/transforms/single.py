"""The float32 kernels of analysis (pixels to kept coefficients) and synthesis (the inverse transform).

Shapes, for images of C channels and H x W pixels, of which kh and kw frequencies are kept on the two axes
(0 .. kh - 1 and 0 .. kw - 1, and the negative ones):

    x  (images, C, H, W) or (images, H, W, C)   the pixels
    z  (Q, images, 2, C)                        the real and imaginary parts of the coefficients

    The Q frequencies (u, v) of the rows' and the columns' axis are, in this order: u = 0 .. kh - 1 with v = 0
    (the conjugates have u < 0), then for each v = 1 .. kw - 1 all u = -(kh - 1) .. kh - 1.
    If only the mean is kept, z is (1, images, 1, C).

A CUDA block transforms 8, 16 or 32 channels of one image. The first stage transforms one axis and leaves the
result T (image rows, v, 2, channels) in shared memory. The second stage transforms the other axis. Each stage
multiplies a constant matrix and a matrix with one channel in each column or row, on tensor cores. So
coefficients are read and written in whole vectors of channels for both memory formats of x. Device memory is
read once and written once: H * W + 2 * Q numbers per plane (one channel of one image).

`half` has the kernels of the 16-bit types.
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
    """Return the kernel that computes the Fourier coefficients z of the pixels x.

    Its arguments are (x, z, *analysis_tables(...), number of images). Its grid has planes.chunks CUDA blocks
    for each image.
    """
    function = analysis_kernel.function(planes)
    return Kernel(function, SIGNATURE, 32 * planes.warps, planes.shared_bytes, planes)


@lru_cache(maxsize=256)
def synthesis(planes: Float32Planes) -> Kernel:
    """Return the kernel that computes the pixels y from the coefficients z.

    Its arguments are (z, y, *synthesis_tables(...), number of images). Its grid has planes.chunks CUDA blocks
    for each image.
    """
    function = synthesis_kernel.function(planes)
    return Kernel(function, SIGNATURE, 32 * planes.warps, planes.shared_bytes, planes)


def analysis_tables(
    planes: Float32Planes, rows: TransformAxis, columns: TransformAxis, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the constant matrices of the kernel `analysis`: first for `columns`, then for `rows`."""
    return (
        on_device(device, from_pixels, columns, -1, planes.vector, planes.split),
        on_device(device, from_pixels, rows, 1, 1, planes.split),
    )


def synthesis_tables(
    planes: Float32Planes, rows: TransformAxis, columns: TransformAxis, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the constant matrices of the kernel `synthesis`: first for `rows`, then for `columns`."""
    if planes.channels_last:
        last = on_device(device, to_pixels, columns, -1, planes.split)
    else:
        last = on_device(device, to_pixels_right, columns, -1, planes.vector, planes.split)
    return on_device(device, to_pixels, rows, 1, planes.split), last
