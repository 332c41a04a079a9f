"""The kernels applied to tensors: the operators of `blconv.kernels.operators` without torch's dispatcher.

A plan is all that a call needs besides its tensors: a compiled kernel, its constant tables on the device, and
sizes. Plans are cached, so an eager call costs little more than the launch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from blconv import tables
from blconv.band import AxisBand
from blconv.geometry import DenseAxis, TransformAxis
from blconv.kernels.runtime.side_stream import SideStream
from blconv.kernels.transforms.fragments import coefficient_count, part_count
from blconv.layout import is_channels_last

if TYPE_CHECKING:
    from blconv.kernels.low_pass.sizes import LowPassSizes
    from blconv.kernels.runtime.kernel import Kernel

MEMORY: dict[torch.dtype, Literal["float32", "bfloat16", "float16"]] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
PlaneAxes = tuple[TransformAxis, ...]
FilterAxes = tuple[TransformAxis, ...] | tuple[DenseAxis, ...]
Bands = tuple[AxisBand, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """A kernel, its constant arguments, its number of CUDA blocks, and the sizes of its result.

    `blocks` is per image for a transform, and in total for a kernel of the filters. `sizes` is (Q, parts * C)
    for a transform, and the result's shape for a kernel of the filters.
    """

    kernel: "Kernel"
    constants: tuple[Tensor | float, ...]
    blocks: int
    sizes: tuple[int, ...]


def table_kind(axes: FilterAxes) -> str:
    """Return the name of the table in `blconv.tables` from which a filter's matrices are computed."""
    return "pixel_filter_table" if isinstance(axes[0], DenseAxis) else "filter_table"


def matrix_sizes(axes: FilterAxes) -> tuple[int, int, int]:
    """Return (number of matrices made from a filter, numbers per input channel, numbers per output channel).

    A matrix has a block of the latter two sizes for each pair of channels: real and imaginary parts for the
    method "spectral", and pixels for "dense".
    """
    rows, columns = axes
    if isinstance(rows, DenseAxis) and isinstance(columns, DenseAxis):
        return 1, rows.length * columns.length, rows.out * columns.out
    count = coefficient_count(rows.kept, columns.kept)
    return count, part_count(count), part_count(count)


def analyse(x: Tensor, axes: PlaneAxes) -> Tensor:
    """Return the kept coefficients (Q, batch, parts * C) of x (batch, C, H, W): the forward transform.

    parts is 2, for real and imaginary parts, or 1 if only the mean is kept.
    """
    channels_last = is_channels_last(x)
    x = _align(x if channels_last else x.contiguous())
    batch, channels = x.shape[:2]
    plan = _transform_plan("analysis", x.dtype, channels, axes, channels_last, _is_split(x.dtype), x.device)
    count, width = plan.sizes
    z = x.new_empty(count, batch, width)
    plan.kernel.launch(batch * plan.blocks, x, z, *plan.constants, batch)
    return z


def synthesise(z: Tensor, axes: PlaneAxes, channels: int, channels_last: bool) -> Tensor:
    """Return the pixels (batch, C, H, W) of the coefficients z (Q, batch, parts * C): the inverse transform.

    C is `channels`, and `channels_last` selects the memory format of the result. parts is 2, for real and
    imaginary parts, or 1 if only the mean is kept.
    """
    z = _align(z.contiguous())
    batch = z.shape[1]
    plan = _transform_plan("synthesis", z.dtype, channels, axes, channels_last, _is_split(z.dtype), z.device)
    y = empty_images(z, axes, channels, channels_last)
    plan.kernel.launch(batch * plan.blocks, z, y, *plan.constants, batch)
    return y


def empty_images(z: Tensor, axes: PlaneAxes, channels: int, channels_last: bool) -> Tensor:
    """Return an uninitialised tensor for the result of `synthesise`."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = z.shape[1], channels, *(axis.positions for axis in axes)
    return torch.empty(shape, dtype=z.dtype, device=z.device, memory_format=layout)


def pack(
    w: Tensor, axes: FilterAxes, *, transposed: bool = False, side_stream: SideStream | None = None
) -> Tensor:
    """Return the matrices (Q, inputs * C, outputs * O) made from the filters w (O, C, K_h, K_w).

    inputs and outputs are the numbers per channel of `matrix_sizes`. With `transposed`, every matrix is
    transposed. With a `side_stream`, the kernel runs on that stream.
    """
    channels_last = is_channels_last(w)
    rounds = w.dtype == torch.float32 and not _is_split(w.dtype)
    shape = tuple(w.shape)
    plan = _filter_plan("pack", w.dtype, shape, axes, channels_last, transposed, rounds, w.device)
    v = w.new_empty(plan.sizes)
    w = w if channels_last else w.contiguous()
    plan.kernel.launch(plan.blocks, w, v, *plan.constants, stream=side_stream and side_stream.fork())
    return v


def fold(
    v: Tensor,
    axes: FilterAxes,
    shape: Sequence[int],
    channels_last: bool,
    *,
    side_stream: SideStream | None = None,
) -> Tensor:
    """Return the adjoint of `pack`, applied to the matrices v: filters of the given `shape` (O, C, K_h, K_w).

    `channels_last` selects their memory format. Sums are computed in float32. With a `side_stream`, the
    kernel runs on that stream.
    """
    plan = _filter_plan("fold", v.dtype, tuple(shape), axes, channels_last, False, False, v.device)
    w = v.new_empty(plan.sizes)
    v = v.contiguous()
    plan.kernel.launch(plan.blocks, v, w, *plan.constants, stream=side_stream and side_stream.fork())
    return w.movedim(-1, 1) if channels_last else w


def contract(z: Tensor, w: Tensor, axes: FilterAxes) -> Tensor:
    """Return the matrix products z[q] V[q] for all q, where V are the matrices that `pack` makes from w.

    z is (Q, batch, inputs * C), and the result is (Q, batch, outputs * O).
    """
    # The summed index is contiguous in both operands: tensor cores read this layout fastest.
    return torch.bmm(z, pack(w, axes, transposed=True).mT)


def empty_low_pass(x: Tensor, bands: Bands, transposed: bool) -> Tensor:
    """Return an uninitialised tensor for the result of `low_pass`."""
    sizes = [band.length if transposed else band.padded for band in bands]
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty(*x.shape[:2], *sizes, dtype=x.dtype, device=x.device, memory_format=layout)


def low_pass(x: Tensor, bands: Bands, transposed: bool) -> Tensor:
    """Return the matrix product A_rows X A_columns^T for every plane X of x (batch, C, H, W).

    The matrices A are those of `tables.low_pass` for the two `bands`. With `transposed`, both are transposed,
    which gives the adjoint.
    """
    channels_last = is_channels_last(x)
    x = _align(x if channels_last else x.contiguous())
    y = empty_low_pass(x, bands, transposed)
    if y.numel():
        from blconv.kernels.low_pass.kernel import low_pass as kernel_of

        batch, *planes = x.shape
        sizes, constants = _low_pass_plan(
            x.dtype, tuple(planes), bands, transposed, channels_last, _is_split(x.dtype), x.device
        )
        kernel_of(sizes).launch(sizes.blocks(batch), x, y, *constants, batch)
    return y


def _is_split(dtype: torch.dtype) -> bool:
    """Return whether `dtype` is float32 and torch's setting demands full precision for matrix products."""
    return dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32


def _align(x: Tensor) -> Tensor:
    """Return x, or a copy of it if its address is not a multiple of 16 bytes, so that vectors can be read."""
    return x if x.data_ptr() % 16 == 0 else x.clone(memory_format=torch.preserve_format)


@lru_cache(maxsize=4096)
def _transform_plan(
    direction: Literal["analysis", "synthesis"],
    dtype: torch.dtype,
    channels: int,
    axes: PlaneAxes,
    channels_last: bool,
    split: bool,
    device: torch.device,
) -> Plan:
    from blconv.kernels.transforms import half, single
    from blconv.kernels.transforms.half_planes import HalfPlanes
    from blconv.kernels.transforms.planes import Float32Planes

    rows, columns = axes
    sizes = channels, rows.positions, columns.positions, rows.kept, columns.kept, channels_last
    planes: Float32Planes | HalfPlanes
    if dtype == torch.float32:
        planes = Float32Planes(*sizes, "split" if split else "tf32")
    else:
        planes = HalfPlanes(*sizes, MEMORY[dtype])
    source = single if dtype == torch.float32 else half
    kernel, constants = getattr(source, direction), getattr(source, f"{direction}_tables")
    made = planes.coefficient_count, planes.parts * channels
    return Plan(kernel(planes), constants(planes, rows, columns, device), planes.chunks, made)


@lru_cache(maxsize=4096)
def _filter_plan(
    direction: Literal["pack", "fold"],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    axes: FilterAxes,
    channels_last: bool,
    transposed: bool,
    rounds: bool,
    device: torch.device,
) -> Plan:
    from blconv.kernels.filters import kernel as kernels

    outputs, channels, *taps = shape
    count, inputs_of, outputs_of = matrix_sizes(axes)
    kind = table_kind(axes)
    filters = kernels.FilterSizes(
        channels, outputs, math.prod(taps), count, (inputs_of, outputs_of),
        kind == "filter_table" and inputs_of == 2, channels_last, MEMORY[dtype], transposed, rounds,
    )  # fmt: skip
    filter_table: Tensor = tables.constant(kind, axes, torch.float32, device)
    if direction == "fold":
        order = (outputs, *taps, channels) if channels_last else shape
        return Plan(kernels.fold(filters), (filter_table,), filters.folding_blocks, order)
    sides = inputs_of * channels, outputs_of * outputs
    sizes = (count, *(sides[::-1] if transposed else sides))
    return Plan(kernels.pack(filters), (filter_table,), filters.packing_blocks, sizes)


@lru_cache(maxsize=4096)
def _low_pass_plan(
    dtype: torch.dtype,
    planes: tuple[int, ...],
    bands: Bands,
    transposed: bool,
    channels_last: bool,
    split: bool,
    device: torch.device,
) -> tuple["LowPassSizes", tuple[Tensor, Tensor]]:
    from blconv.kernels.low_pass.sizes import LowPassSizes, operands

    (channels, height, width), (rows, columns) = planes, [b.length if transposed else b.padded for b in bands]
    precision: Literal["split", "tf32"] = "split" if split else "tf32"
    sizes = LowPassSizes(channels, height, width, rows, columns, channels_last, MEMORY[dtype], precision)
    with torch.inference_mode(False), torch.no_grad():
        sides = [tables.low_pass(band) for band in bands]
        first, second = operands(sizes, *(side.T if transposed else side for side in sides))
        return sizes, (first.to(device), second.to(device))
