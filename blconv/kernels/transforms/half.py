"""The analysis and synthesis kernels for bfloat16 and float16, with half the bytes of float32 everywhere.

Shapes and the order of memory are those of `single`. Factors are 16-bit numbers, and sums are float32.
"""

from functools import lru_cache

import torch
from torch import Tensor

from blconv.geometry import TransformAxis
from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.transforms import half_analysis, half_synthesis
from blconv.kernels.transforms.fragments import on_device
from blconv.kernels.transforms.half_fragments import from_pixels, table_scale, to_pixels, to_pixels_right
from blconv.kernels.transforms.half_planes import HalfPlanes

SIGNATURE = ("uint16*", "uint16*", "uint32*", "uint32*", "float32", "int64")


@lru_cache(maxsize=256)
def analysis(planes: HalfPlanes) -> Kernel:
    """Return the kernel that computes the coefficients z from the pixels x.

    Its arguments are (x, z, *analysis_tables(...), number of images). Its grid has planes.chunks CUDA blocks
    for each image.
    """
    function = half_analysis.function(planes)
    return Kernel(function, SIGNATURE, 32 * planes.warps, planes.shared_bytes, planes)


@lru_cache(maxsize=256)
def synthesis(planes: HalfPlanes) -> Kernel:
    """Return the kernel that computes the pixels y from the coefficients z.

    Its arguments are (z, y, *synthesis_tables(...), number of images). Its grid has planes.chunks CUDA blocks
    for each image.
    """
    function = half_synthesis.function(planes)
    return Kernel(function, SIGNATURE, 32 * planes.warps, planes.shared_bytes, planes)


def analysis_tables(
    planes: HalfPlanes, rows: TransformAxis, columns: TransformAxis, device: torch.device
) -> tuple[Tensor, Tensor, float]:
    """Return the constants of `analysis`: the matrices of the columns' and of the rows' axis, and a factor.

    The kernel multiplies its sums by this factor; see `half_fragments.table_scale`.
    """
    dtype = getattr(torch, planes.memory)
    return (
        on_device(device, from_pixels, columns, -1, planes.span, dtype),
        on_device(device, from_pixels, rows, 1, 2, dtype),
        table_scale(rows) * table_scale(columns),
    )


def synthesis_tables(
    planes: HalfPlanes, rows: TransformAxis, columns: TransformAxis, device: torch.device
) -> tuple[Tensor, Tensor, float]:
    """Return the constants of `synthesis`: the matrices of the rows' and of the columns' axis, and a factor.

    The kernel multiplies its sums by this factor; see `half_fragments.table_scale`.
    """
    dtype = getattr(torch, planes.memory)
    if planes.channels_last:
        last = on_device(device, to_pixels, columns, -1, dtype)
    else:
        last = on_device(device, to_pixels_right, columns, -1, planes.span, dtype)
    return on_device(device, to_pixels, rows, 1, dtype), last, table_scale(rows) * table_scale(columns)
