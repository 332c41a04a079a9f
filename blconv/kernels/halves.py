"""Analysis and synthesis of bfloat16 and float16 planes: the transforms with half the bytes everywhere.

The layouts of memory are those of `transforms`; products are of 16-bit numbers, sums are float32.
"""

from functools import lru_cache

import torch
from torch import Tensor

from blconv.kernels import half_analysis, half_synthesis
from blconv.kernels.fragments import AxisWaves
from blconv.kernels.half_fragments import on_device, scale_of
from blconv.kernels.half_planes import Halves
from blconv.kernels.kernel import Kernel

SIGNATURE = ("uint16*", "uint16*", "uint32*", "uint32*", "float32", "int64")


@lru_cache(maxsize=256)
def analysis(planes: Halves) -> Kernel:
    """The kernel (x, z, *analysis_tables, images), of images * planes.chunks blocks."""
    function = half_analysis.function(planes)
    return Kernel(function, SIGNATURE, 32 * planes.warps, planes.shared_bytes, planes)


@lru_cache(maxsize=256)
def synthesis(planes: Halves) -> Kernel:
    """The kernel (z, y, *synthesis_tables, images), of images * planes.chunks blocks."""
    function = half_synthesis.function(planes)
    return Kernel(function, SIGNATURE, 32 * planes.warps, planes.shared_bytes, planes)


def analysis_tables(
    planes: Halves, rows: AxisWaves, columns: AxisWaves, device: torch.device
) -> tuple[Tensor, Tensor, float]:
    """The constants of an analysis: tables of the columns and the rows, and what they leave to the sums."""
    dtype = getattr(torch, planes.memory)
    return (
        on_device("from", columns, -1, planes.span, dtype, device),
        on_device("from", rows, 1, 2, dtype, device),
        scale_of(rows) * scale_of(columns),
    )


def synthesis_tables(
    planes: Halves, rows: AxisWaves, columns: AxisWaves, device: torch.device
) -> tuple[Tensor, Tensor, float]:
    """The constants of a synthesis: tables of the rows and the columns, and what they leave to the sums."""
    dtype = getattr(torch, planes.memory)
    return (
        on_device("to", rows, 1, 1, dtype, device),
        on_device("to" if planes.channels_last else "right", columns, -1, planes.span, dtype, device),
        scale_of(rows) * scale_of(columns),
    )
