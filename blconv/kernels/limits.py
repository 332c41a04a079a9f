"""The limits of the kernels; beyond them the same methods run on torch's matrix products."""

import math
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch

from blconv.band import Band
from blconv.geometry import Geometry

MAX_TAPS = 49  # taps of a filter, at most, for the method "spectral"
MAX_SHARED_BYTES = 112 * 1024  # of a block, at most, so that two blocks share a multiprocessor
MAX_FRAGMENTS = 32  # vectors of 4 numbers of a constant matrix in a lane, at most; both halves if it is split
# Columns of a plane, at most, if pixels are last in memory: a lane holds the sums of every eighth column.
LOW_PASS_MAX_COLUMNS = 72
# Rows or columns of a plane, at most, if channels are last: a lane holds every fourth pixel of one of them.
LOW_PASS_MAX_SIDE = 256
DENSE_MAX_TAPS = 25  # taps of a filter, at most, for the method "dense"
DENSE_MAX_ENTRIES = 16  # entries of its matrix per pair of channels, at most: maps of 2 x 2 pixels
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def runs_spectral_kernels(device: torch.device, dtype: torch.dtype, geometry: Geometry) -> bool:
    """Return whether our kernels run the method "spectral" for inputs (batch, C, H, W) of these sizes."""
    if not runs_operators(device):
        return False
    # `torch.compile` traces the arithmetic instead of the cache.
    check = has_spectral_kernels if torch.compiler.is_compiling() else _cached_has_spectral_kernels
    return check(dtype, geometry)


def runs_dense_kernels(device: torch.device, dtype: torch.dtype, geometry: Geometry) -> bool:
    """Return whether our kernels compute the matrix of the method "dense" from the filters."""
    check = has_dense_kernels if torch.compiler.is_compiling() else _cached_has_dense_kernels
    return runs_operators(device) and check(dtype, geometry)


def runs_low_pass_kernel(
    device: torch.device, dtype: torch.dtype, band: Band, *, channels_last: bool
) -> bool:
    """Return whether our kernel can low-pass filter images (batch, C, H, W), forward and backward."""
    return (
        dtype in KERNEL_DTYPES
        and len(band.axes) == 2
        and low_pass_planes_fit(band, channels_last=channels_last)
        and runs_operators(device)
    )


def low_pass_planes_fit(band: Band, *, channels_last: bool) -> bool:
    """Return whether the low-pass kernel can filter images whose axes are those of `band`.

    If channels are last, the planes of a block must fit into shared memory, and the sides of a plane must be
    at most `LOW_PASS_MAX_SIDE`. If pixels are last, a padded plane must have at most `LOW_PASS_MAX_COLUMNS`
    columns.
    """
    rows, columns = band.axes
    if min(rows.length, columns.length) < 1:
        return False
    if channels_last:
        there, back = rows.length * (8 * columns.padded + 16), rows.padded * (8 * columns.length + 16)
        side = max(rows.padded, columns.padded)
        return 4 * max(there, back) <= MAX_SHARED_BYTES and side <= LOW_PASS_MAX_SIDE
    return columns.padded <= LOW_PASS_MAX_COLUMNS


def runs_operators(device: torch.device) -> bool:
    """Return whether our operators can run on the device; never within transforms of `torch.func`."""
    return (
        device.type == "cuda"
        and torch.version.cuda is not None
        and not torch._C._are_functorch_transforms_active()
        and is_installed()
    )


def has_spectral_kernels(dtype: torch.dtype, geometry: Geometry) -> bool:
    """Return whether the kernels of the method "spectral" support this dtype and these sizes."""
    few_taps = math.prod(geometry.kernel) <= MAX_TAPS
    return few_taps and _has_type(dtype, geometry) and spectral_planes_fit(geometry)


_cached_has_spectral_kernels = lru_cache(maxsize=4096)(has_spectral_kernels)


def has_dense_kernels(dtype: torch.dtype, geometry: Geometry) -> bool:
    """Return whether the kernels of the method "dense" support this dtype and these sizes."""
    pixels, taps = math.prod(geometry.input) * math.prod(geometry.out), math.prod(geometry.kernel)
    return _has_type(dtype, geometry) and pixels <= DENSE_MAX_ENTRIES and taps <= DENSE_MAX_TAPS


_cached_has_dense_kernels = lru_cache(maxsize=4096)(has_dense_kernels)


def _has_type(dtype: torch.dtype, geometry: Geometry) -> bool:
    return dtype in KERNEL_DTYPES and geometry.dims == 2 and geometry.groups == 1


def spectral_planes_fit(geometry: Geometry) -> bool:
    """Return whether both axes drop frequencies, and the planes of input and output fit into a block.

    A block has limited shared memory and registers.
    """
    rows, columns = geometry.band.axes
    if not (rows.is_cut and columns.is_cut):
        return False
    planes = (geometry.input, geometry.out)
    return all(_plane_fits(height, width, rows.kept, columns.kept) for height, width in planes)


def _plane_fits(height: int, width: int, kept_rows: int, kept_columns: int) -> bool:
    shared = 4 * height * (24 * kept_columns + 31)
    fragments = max(
        -(-kept_columns // 8) * 2 * -(-width // 16),
        -(-kept_rows // 8) * -(-height // 8),
        -(-height // 16) * -(-kept_rows // 4),
        -(-width // 16) * -(-kept_columns // 4),
    )
    return shared <= MAX_SHARED_BYTES and 2 * fragments <= MAX_FRAGMENTS


@torch.compiler.assume_constant_result
def is_installed() -> bool:
    """Return whether Numba's CUDA target and the driver's bindings are installed and every GPU is suitable.

    A suitable GPU has compute capability 8.0 or later and 112 KB of shared memory per block, like A100, H100
    and their successors. The smaller GPUs of a generation have 99 KB. They run the same methods on torch's
    matrix products.
    """
    return _is_installed()


@lru_cache(maxsize=1)
def _is_installed() -> bool:
    modules = ("numba_cuda", "cuda.bindings", "cuda.core")
    try:
        found = all(find_spec(name) is not None for name in modules)
    except ModuleNotFoundError:
        return False
    if not (found and torch.cuda.is_available()):
        return False
    # torch 2.14's type stub for these properties lacks `shared_memory_per_block_optin`.
    devices: list[Any] = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return all(d.major >= 8 and d.shared_memory_per_block_optin >= MAX_SHARED_BYTES for d in devices)
