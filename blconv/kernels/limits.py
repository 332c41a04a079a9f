"""What the kernels can do: where they cannot, the same form runs on torch's matrix products."""

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from blconv.geometry import Geometry

MAX_TAPS = 49
SHARED_BYTES = 112 * 1024  # of a block, at most, so that two share a multiprocessor
FRAGMENTS = 32  # vectors of 4 of a constant matrix that a lane holds, both halves of a split together
TYPES = (torch.float32, torch.bfloat16, torch.float16)


def runs_kernels(x: Tensor, geometry: Geometry) -> bool:
    """Whether the spectral form of x (batch, C, H, W) runs on our kernels."""
    return (
        x.device.type == "cuda"
        and x.dtype in TYPES
        and geometry.dims == 2
        and geometry.groups == 1
        and fits(geometry)
        and is_installed()
    )


def fits(geometry: Geometry) -> bool:
    """Whether both axes are cut, and planes and filters are small enough for shared memory and registers."""
    rows, columns = geometry.band.axes
    if not (rows.is_cut and columns.is_cut) or geometry.kernel[0] * geometry.kernel[1] > MAX_TAPS:
        return False
    planes = (geometry.input, geometry.out)
    return all(_fits(height, width, rows.kept, columns.kept) for height, width in planes)


def _fits(height: int, width: int, kept_rows: int, kept_columns: int) -> bool:
    shared = 4 * height * (24 * kept_columns + 31)
    fragments = max(
        -(-kept_columns // 8) * 2 * -(-width // 16),
        -(-kept_rows // 8) * -(-height // 8),
        -(-height // 16) * -(-kept_rows // 4),
        -(-width // 16) * -(-kept_columns // 4),
    )
    return shared <= SHARED_BYTES and 2 * fragments <= FRAGMENTS


@torch.compiler.assume_constant_result
def is_installed() -> bool:
    """Whether Numba's CUDA target and the driver's bindings are there, and the GPU is recent enough."""
    return _is_installed()


@lru_cache(maxsize=1)
def _is_installed() -> bool:
    modules = ("numba_cuda", "cuda.bindings", "cuda.core")
    try:
        found = all(find_spec(name) is not None for name in modules)
    except ModuleNotFoundError:
        return False
    return found and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
