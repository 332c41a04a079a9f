"""The kernels applied to tensors: the operators of `blconv.kernels.operators` without torch's dispatcher."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from blconv import tables
from blconv.band import AxisBand
from blconv.constants import on_device
from blconv.kernels.plans import (
    MEMORY,
    FilterAxes,
    PlaneAxes,
    aligned,
    dense,
    filter_plan,
    is_split,
    readable,
    transform_plan,
)
from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.runtime.program import launch
from blconv.layout import is_channels_last

if TYPE_CHECKING:
    from blconv.kernels.low_pass.sizes import LowPassSizes

Bands = tuple[AxisBand, ...]


def analyse(x: Tensor, axes: PlaneAxes) -> Tensor:
    """Return the kept coefficients (Q, batch, parts * C) of x (batch, C, H, W): the forward transform.

    Q is the number of kept coefficients of a channel. parts is 2, for real and imaginary parts, or 1 if only
    the mean is kept. `axes` are those of x, rows first.
    """
    x, channels_last = readable(x)
    batch, channels = x.shape[:2]
    plan = transform_plan("analysis", x.dtype, channels, axes, channels_last, is_split(x.dtype), x.device)
    count, width = plan.sizes
    z = x.new_empty(count, batch, width)
    plan.program.run(batch, x, z)
    return z


def synthesise(z: Tensor, axes: PlaneAxes, channels: int, channels_last: bool) -> Tensor:
    """Return the pixels (batch, C, H, W) of the coefficients z (Q, batch, parts * C): the inverse transform.

    C is `channels`, and `channels_last` selects the memory format of the result. Q is the number of kept
    coefficients of a channel. parts is 2, for real and imaginary parts, or 1 if only the mean is kept.
    """
    z = aligned(z.contiguous())
    plan = transform_plan("synthesis", z.dtype, channels, axes, channels_last, is_split(z.dtype), z.device)
    y = empty_images(z, axes, channels, channels_last)
    plan.program.run(z.shape[1], z, y)
    return y


def empty_images(z: Tensor, axes: PlaneAxes, channels: int, channels_last: bool) -> Tensor:
    """Return an uninitialised tensor for the result of `synthesise` with the same arguments."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = z.shape[1], channels, *(axis.positions for axis in axes)
    return torch.empty(shape, dtype=z.dtype, device=z.device, memory_format=layout)


def pack(w: Tensor, axes: FilterAxes, *, transposed: bool = False) -> Tensor:
    """Return the matrices (Q, inputs * C, outputs * O) made from the filters w (O, C, K_h, K_w).

    There are Q matrices, one per kept frequency, or a single one for the method "dense". inputs and outputs
    count the values per channel: 2 for "spectral" (real and imaginary part), or 1 if only the mean is kept;
    for "dense", the pixels of the input and of the output. With `transposed`, every matrix is transposed.
    """
    w, channels_last = dense(w)
    shape, rounds = tuple(w.shape), w.dtype == torch.float32 and not is_split(w.dtype)
    plan = filter_plan("pack", w.dtype, shape, axes, channels_last, transposed, rounds, w.device)
    v = w.new_empty(plan.sizes)
    plan.program.run(1, w, v)
    return v


def fold(v: Tensor, axes: FilterAxes, shape: Sequence[int], channels_last: bool) -> Tensor:
    """Return the adjoint of `pack`, applied to v: filters of the given `shape` (O, C, K_h, K_w).

    v has the shape of a result of `pack` without `transposed`. `channels_last` selects the memory format of
    the filters. Sums are computed in float32.
    """
    plan = filter_plan("fold", v.dtype, tuple(shape), axes, channels_last, False, False, v.device)
    w = v.new_empty(plan.sizes)
    v = v.contiguous()
    plan.program.run(1, v, w)
    return w.movedim(-1, 1) if channels_last else w


def contract(z: Tensor, w: Tensor, axes: FilterAxes) -> Tensor:
    """Return the matrix products z[q] @ V[q] for all q, where V are the matrices `pack(w, axes)`.

    z is (Q, batch, inputs * C), and the result is (Q, batch, outputs * O); `pack` defines Q, inputs and
    outputs.
    """
    # The summed index is contiguous in both operands: tensor cores read this layout fastest.
    return torch.bmm(z, pack(w, axes, transposed=True).mT)


def empty_low_pass(x: Tensor, bands: Bands, transposed: bool) -> Tensor:
    """Return an uninitialised tensor for the result of `low_pass` with the same arguments."""
    return _empty_planes(x, bands, transposed, is_channels_last(x))


def _empty_planes(x: Tensor, bands: Bands, transposed: bool, channels_last: bool) -> Tensor:
    sizes = [band.length if transposed else band.padded for band in bands]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(*x.shape[:2], *sizes, dtype=x.dtype, device=x.device, memory_format=layout)


def low_pass(x: Tensor, bands: Bands, transposed: bool) -> Tensor:
    """Return the matrix product A_rows X A_columns^T for every plane X of x (batch, C, H, W).

    A_rows and A_columns are the matrices `tables.low_pass` of the two `bands`. With `transposed`, both are
    transposed, which gives the adjoint.
    """
    x, channels_last = readable(x)
    y = _empty_planes(x, bands, transposed, channels_last)
    if y.numel():
        batch = x.shape[0]
        kernel, sizes, constants = _low_pass_plan(
            x.dtype, x.shape[1:], bands, transposed, channels_last, is_split(x.dtype), x.device
        )
        launch(kernel, sizes.blocks(batch), x, y, *constants, batch)
    return y


@lru_cache(maxsize=4096)
def _low_pass_plan(
    dtype: torch.dtype,
    planes: tuple[int, ...],
    bands: Bands,
    transposed: bool,
    channels_last: bool,
    split: bool,
    device: torch.device,
) -> tuple[Kernel, "LowPassSizes", tuple[Tensor, Tensor]]:
    from blconv.kernels.low_pass.kernel import low_pass as kernel_of
    from blconv.kernels.low_pass.sizes import LowPassSizes, operands

    (channels, height, width), (rows, columns) = planes, [b.length if transposed else b.padded for b in bands]
    precision: Literal["split", "tf32"] = "split" if split else "tf32"
    sizes = LowPassSizes(channels, height, width, rows, columns, channels_last, MEMORY[dtype], precision)
    with torch.inference_mode(False), torch.no_grad():
        sides = [tables.low_pass(band) for band in bands]
        first, second = operands(sizes, *(side.T if transposed else side for side in sides))
        return kernel_of(sizes), sizes, (on_device(first, device), on_device(second, device))
