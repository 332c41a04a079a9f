"""Plans: everything that a launch of one of the layer's kernels needs besides its tensors.

A plan has a compiled kernel, constant tables on the device, and sizes. Plans are made once and cached, so an
eager call costs little more than the launch.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import torch
from torch import Tensor

from blconv import tables
from blconv.geometry import DenseAxis, TransformAxis
from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.runtime.program import IMAGES, Launch, Place, Program
from blconv.kernels.transforms.fragments import coefficient_count, part_count

MEMORY: dict[torch.dtype, Literal["float32", "bfloat16", "float16"]] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
PlaneAxes = tuple[TransformAxis, ...]
FilterAxes = tuple[TransformAxis, ...] | tuple[DenseAxis, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """A kernel, its constant arguments, its number of CUDA blocks, and the sizes of a tensor.

    The kernel's arguments are the tensor that it reads, the tensor that it writes, and `constants`; if
    `per_image` is set, the number of images follows. For a transform, `blocks` is the number of blocks per
    image, and `sizes` is (Q, parts * C), the shape of the coefficients of an image: Q coefficients per
    channel, of 2 parts (real and imaginary) or 1. For a kernel of the filters, `blocks` is the number of all
    blocks, and `sizes` is the shape of the result in memory.
    """

    kernel: Kernel
    constants: tuple[Tensor | float, ...]
    blocks: int
    sizes: tuple[int, ...]
    device: torch.device
    per_image: bool

    def step(self, source: Place, target: Place, *, aside: bool = False) -> Launch:
        """Return the launch that reads `source` and writes `target`, on the side stream if `aside`."""
        arguments = source, target, *self.constants, *[IMAGES] * self.per_image
        return Launch(self.kernel, self.blocks, arguments, self.per_image, aside)

    @cached_property
    def program(self) -> Program:
        """The program of this launch alone; it takes the tensor to read and the tensor to write."""
        return Program(self.device, [self.step(Place(1), Place(2))], given=2)


def table_kind(axes: FilterAxes) -> str:
    """Return the name of the table in `blconv.tables` from which a filter's matrices are computed."""
    return "pixel_filter_table" if isinstance(axes[0], DenseAxis) else "filter_table"


def matrix_sizes(axes: FilterAxes) -> tuple[int, int, int]:
    """Return the number of matrices made from filters, and their rows and columns per channel.

    Rows are counted per input channel, columns per output channel. The method "spectral" has a matrix for
    each kept frequency, with 2 rows and 2 columns (real and imaginary part), or with 1 row and 1 column if
    only the mean is kept. "dense" has one matrix, with a row for each pixel of the input and a column for
    each pixel of the output.
    """
    rows, columns = axes
    if isinstance(rows, DenseAxis) and isinstance(columns, DenseAxis):
        return 1, rows.length * columns.length, rows.out * columns.out
    count = coefficient_count(rows.kept, columns.kept)
    return count, part_count(count), part_count(count)


def is_split(dtype: torch.dtype) -> bool:
    """Return whether `dtype` is float32 and torch's setting demands full precision for matrix products."""
    # The function that `torch.backends.cuda.matmul.allow_tf32` calls, in a tenth of its time.
    return dtype == torch.float32 and not torch._C._get_cublas_allow_tf32()


def readable(x: Tensor) -> tuple[Tensor, bool]:
    """Return x, or a dense and aligned copy that a transform can read, and whether it is channels last."""
    x, channels_last = dense(x)
    return aligned(x), channels_last


def dense(x: Tensor) -> tuple[Tensor, bool]:
    """Return x, or a copy if it is neither contiguous nor channels last, and whether it is channels last."""
    if x.is_contiguous():
        return x, False
    return (x, True) if x.is_contiguous(memory_format=torch.channels_last) else (x.contiguous(), False)


def aligned(x: Tensor) -> Tensor:
    """Return x, or a copy of it at an address where a lane can read 16 bytes at once."""
    return x if x.data_ptr() % 16 == 0 else x.clone(memory_format=torch.preserve_format)


@lru_cache(maxsize=4096)
def transform_plan(
    direction: Literal["analysis", "synthesis"],
    dtype: torch.dtype,
    channels: int,
    axes: PlaneAxes,
    channels_last: bool,
    split: bool,
    device: torch.device,
) -> Plan:
    """Return the plan of the transform of images with `channels` channels.

    "analysis" computes coefficients from pixels, and "synthesis" pixels from coefficients. `split` states
    whether float32 products have full precision.
    """
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
    return Plan(kernel(planes), constants(planes, rows, columns, device), planes.chunks, made, device, True)


@lru_cache(maxsize=4096)
def filter_plan(
    direction: Literal["pack", "fold"],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    axes: FilterAxes,
    channels_last: bool,
    transposed: bool,
    rounds: bool,
    device: torch.device,
) -> Plan:
    """Return the plan of packing filters of `shape` (O, C, K_h, K_w) into matrices, or of its adjoint.

    The adjoint is folding. `channels_last` is the memory format of the filters. For packing, `transposed`
    selects transposed matrices, and with `rounds` the entries of the matrices are rounded to TF32.
    """
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
        return Plan(kernels.fold(filters), (filter_table,), filters.folding_blocks, order, device, False)
    sides = inputs_of * channels, outputs_of * outputs
    sizes = (count, *(sides[::-1] if transposed else sides))
    return Plan(kernels.pack(filters), (filter_table,), filters.packing_blocks, sizes, device, False)
