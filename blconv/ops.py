"""The CUDA operations of the spectral form as torch operators: differentiable, traceable, capturable.

    z = analyse(x, axes)           pixels -> kept coefficients             z  (Q, batch, parts C)
    Y = contract(z, w, kind, ...)  one product a frequency                 Y  (Q, batch, parts O)
    y = synthesise(Y, axes, ...)   coefficients -> pixels
    V = pack(w, kind, ...)         filters -> their matrices               V  (Q, parts C, parts O)
    y = low_pass(x, axes, ...)     A_rows x A_columns^T on every plane, or its adjoint

analyse and synthesise are each other's adjoint, so are pack and fold; contract saves z and w and packs
again in its backward pass. So what is kept for the backward pass is z alone, and any order of
derivative is made of the same operators. `axes` are the numbers of two `AxisWaves`: rows, columns.
`kind` and `numbers` name the table of `blconv.tables` that makes matrices of filters: "mixes" for the
spectral form, "pixel_mixes" for the dense one, whose z are pixels (1, batch, H W C). The axes of
low_pass are the numbers of two `AxisBand`; its adjoint is itself, transposed, and nothing is kept for it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from blconv import tables
from blconv.band import AxisBand
from blconv.kernels.fragments import AxisWaves
from blconv.layout import is_channels_last
from blconv.tables import constant

if TYPE_CHECKING:
    from blconv.kernels.filters import Filters
    from blconv.kernels.low_pass_maps import Maps

LIBRARY = torch.library.Library("blconv", "DEF")
LIBRARY.define("analyse(Tensor x, int[] axes) -> Tensor")
LIBRARY.define("synthesise(Tensor z, int[] axes, int channels, bool channels_last) -> Tensor")
LIBRARY.define("pack(Tensor w, str kind, int[] numbers) -> Tensor")
LIBRARY.define("fold(Tensor v, str kind, int[] numbers, int[] shape, bool channels_last) -> Tensor")
LIBRARY.define("contract(Tensor z, Tensor w, str kind, int[] numbers) -> Tensor")
LIBRARY.define("low_pass(Tensor x, int[] axes, bool transposed) -> Tensor")

MEMORY: dict[torch.dtype, Literal["float32", "bfloat16", "float16"]] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}


def coefficients(kept_rows: int, kept_columns: int) -> int:
    """Q, the complex coefficients that stand for a plane: one of each conjugate pair."""
    return kept_rows + (kept_columns - 1) * (2 * kept_rows - 1)


def _parts(count: int) -> int:
    return 1 if count == 1 else 2


def _split(dtype: torch.dtype) -> bool:
    """Whether float32 is multiplied in full: torch's setting for matrix products, of which these are some."""
    return dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32


def planes_of(x_dtype: torch.dtype, channels: int, axes: list[int], channels_last: bool, split: bool) -> Any:
    """What the transforms' kernels are compiled for."""
    from blconv.kernels.half_planes import Halves
    from blconv.kernels.transforms import Planes

    rows, columns = AxisWaves(*axes[:5]), AxisWaves(*axes[5:])
    return (Planes if x_dtype == torch.float32 else Halves)(
        channels, rows.positions, columns.positions, rows.kept, columns.kept, channels_last,
        MEMORY[x_dtype], "split" if split else "tf32",
    )  # fmt: skip


def _aligned(x: Tensor) -> Tensor:
    """x where a lane can read 16 bytes at once."""
    return x if x.data_ptr() % 16 == 0 else x.clone(memory_format=torch.preserve_format)


def _images(z: Tensor, channels: int, axes: list[int], channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = z.shape[1], channels, axes[0], axes[5]
    return torch.empty(shape, dtype=z.dtype, device=z.device, memory_format=layout)


def _analyse(x: Tensor, axes: list[int]) -> Tensor:
    from blconv.kernels import halves, transforms
    from blconv.kernels.fragments import on_device

    channels_last, split = is_channels_last(x), _split(x.dtype)
    x = _aligned(x if channels_last else x.contiguous())
    batch, channels = x.shape[:2]
    planes = planes_of(x.dtype, channels, axes, channels_last, split)
    z = x.new_empty(planes.coefficients, batch, planes.parts * channels)
    rows, columns = AxisWaves(*axes[:5]), AxisWaves(*axes[5:])
    blocks = batch * planes.chunks
    if x.dtype != torch.float32:
        constants = halves.analysis_tables(planes, rows, columns, x.device)
        halves.analysis(planes).launch(blocks, x, z, *constants, batch)
        return z
    transforms.analysis(planes).launch(
        blocks, x, z,
        on_device("from", columns, -1, planes.vector, split, x.device),
        on_device("from", rows, 1, 1, split, x.device), batch,
    )  # fmt: skip
    return z


def _synthesise(z: Tensor, axes: list[int], channels: int, channels_last: bool) -> Tensor:
    from blconv.kernels import halves, transforms
    from blconv.kernels.fragments import on_device

    split = _split(z.dtype)
    z = _aligned(z.contiguous())
    planes = planes_of(z.dtype, channels, axes, channels_last, split)
    y = _images(z, channels, axes, channels_last)
    rows, columns = AxisWaves(*axes[:5]), AxisWaves(*axes[5:])
    batch = z.shape[1]
    blocks = batch * planes.chunks
    if z.dtype != torch.float32:
        constants = halves.synthesis_tables(planes, rows, columns, z.device)
        halves.synthesis(planes).launch(blocks, z, y, *constants, batch)
        return y
    last = ("to", 1) if channels_last else ("right", planes.vector)
    transforms.synthesis(planes).launch(
        blocks, z, y,
        on_device("to", rows, 1, 1, split, z.device),
        on_device(last[0], columns, -1, last[1], split, z.device), batch,
    )  # fmt: skip
    return y


def matrices(kind: str, numbers: Sequence[int]) -> tuple[int, int, int]:
    """How many matrices a table makes of filters, and the parts of their inputs and outputs."""
    if kind == "mixes":
        count = coefficients(AxisBand(*numbers[2:7]).kept, AxisBand(*numbers[9:14]).kept)
        return count, _parts(count), _parts(count)
    (_, _, out_rows, _, rows, *_), (_, _, out_columns, _, columns, *_) = numbers[:9], numbers[9:]
    return 1, rows * columns, out_rows * out_columns


def filters_of(
    dtype: torch.dtype, shape: Sequence[int], kind: str, numbers: Sequence[int], channels_last: bool
) -> "Filters":
    """What the filters' kernels are compiled for, of weights of `shape`."""
    from blconv.kernels.filters import Filters

    outputs, channels, *taps = shape
    count, *parts = matrices(kind, numbers)
    return Filters(
        channels, outputs, math.prod(taps), count, (parts[0], parts[1]), channels_last, MEMORY[dtype]
    )


def _mixes(kind: str, numbers: Sequence[int], device: torch.device) -> Tensor:
    table: Tensor = constant(kind, tuple(numbers), torch.float32, device)
    return table


def _pack(w: Tensor, kind: str, numbers: list[int], *, transposed: bool = False) -> Tensor:
    from blconv.kernels.filters import pack

    channels_last = is_channels_last(w)
    rounds = w.dtype == torch.float32 and not _split(w.dtype)
    filters = replace(
        filters_of(w.dtype, w.shape, kind, numbers, channels_last), transposed=transposed, rounds=rounds
    )
    rows, columns = filters.parts[0] * filters.channels, filters.parts[1] * filters.outputs
    v = w.new_empty(filters.matrices, *((columns, rows) if transposed else (rows, columns)))
    w = w if channels_last else w.contiguous()
    pack(filters).launch(filters.tiles * filters.runs, w, v, _mixes(kind, numbers, w.device))
    return v


def _fold(v: Tensor, kind: str, numbers: list[int], shape: list[int], channels_last: bool) -> Tensor:
    from blconv.kernels.filters import fold

    filters = filters_of(v.dtype, shape, kind, numbers, channels_last)
    outputs, channels, *taps = shape
    order = [outputs, *taps, channels] if channels_last else shape
    sums = v.new_empty(filters.runs, *order, dtype=torch.float32)
    fold(filters).launch(filters.tiles * filters.runs, v.contiguous(), sums, _mixes(kind, numbers, v.device))
    w = (sums[0] if filters.runs == 1 else sums.sum(0)).to(v.dtype)
    return w.movedim(-1, 1) if channels_last else w


def _contract(z: Tensor, w: Tensor, kind: str, numbers: list[int]) -> Tensor:
    # Both operands with the summed index contiguous: what the tensor cores read fastest.
    return torch.bmm(z, _pack(w, kind, numbers, transposed=True).mT)


def _low_passed(x: Tensor, axes: list[int], transposed: bool) -> Tensor:
    bands = AxisBand(*axes[:5]), AxisBand(*axes[5:])
    sizes = [band.length if transposed else band.padded for band in bands]
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty(*x.shape[:2], *sizes, dtype=x.dtype, device=x.device, memory_format=layout)


@lru_cache(maxsize=1024)
def _maps_of(
    dtype: torch.dtype, planes: tuple[int, ...], result: tuple[int, ...], channels_last: bool, split: bool
) -> "Maps":
    """What the low-pass kernel is compiled for, planes (C, H, W) and results (H', W'); kept."""
    from blconv.kernels.low_pass_maps import Maps

    (channels, height, width), (rows, columns) = planes, result
    return Maps(
        channels, height, width, rows, columns, channels_last, MEMORY[dtype], "split" if split else "tf32"
    )


@lru_cache(maxsize=1024)
def _low_pass_matrices(
    maps: "Maps", axes: tuple[int, ...], transposed: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The kernel's constant matrices on a device, kept."""
    from blconv.kernels.low_pass_maps import matrices

    with torch.inference_mode(False), torch.no_grad():
        rows, columns = tables.low_pass(*axes[:5]), tables.low_pass(*axes[5:])
        first, second = matrices(maps, *((rows.T, columns.T) if transposed else (rows, columns)))
        return first.to(device), second.to(device)


def _low_pass(x: Tensor, axes: list[int], transposed: bool) -> Tensor:
    from blconv.kernels.low_pass import low_pass

    channels_last = is_channels_last(x)
    x = _aligned(x if channels_last else x.contiguous())
    y = _low_passed(x, axes, transposed)
    if y.numel():
        batch, *planes = x.shape
        maps = _maps_of(x.dtype, tuple(planes), tuple(y.shape[2:]), channels_last, _split(x.dtype))
        constants = _low_pass_matrices(maps, tuple(axes), transposed, x.device)
        low_pass(maps).launch(maps.blocks(batch), x, y, *constants, batch)
    return y


LIBRARY.impl("analyse", _analyse, "CUDA")
LIBRARY.impl("synthesise", _synthesise, "CUDA")
LIBRARY.impl("pack", _pack, "CUDA")
LIBRARY.impl("fold", _fold, "CUDA")
LIBRARY.impl("contract", _contract, "CUDA")
LIBRARY.impl("low_pass", _low_pass, "CUDA")

analyse: Callable[..., Tensor] = torch.ops.blconv.analyse
synthesise: Callable[..., Tensor] = torch.ops.blconv.synthesise
pack: Callable[..., Tensor] = torch.ops.blconv.pack
fold: Callable[..., Tensor] = torch.ops.blconv.fold
contract: Callable[..., Tensor] = torch.ops.blconv.contract
low_pass: Callable[..., Tensor] = torch.ops.blconv.low_pass


@torch.library.register_fake("blconv::analyse")
def _(x: Tensor, axes: list[int]) -> Tensor:
    count = coefficients(axes[4], axes[9])
    return x.new_empty(count, x.shape[0], _parts(count) * x.shape[1])


@torch.library.register_fake("blconv::synthesise")
def _(z: Tensor, axes: list[int], channels: int, channels_last: bool) -> Tensor:
    return _images(z, channels, axes, channels_last)


@torch.library.register_fake("blconv::pack")
def _(w: Tensor, kind: str, numbers: list[int]) -> Tensor:
    count, inputs, outputs = matrices(kind, numbers)
    return w.new_empty(count, inputs * w.shape[1], outputs * w.shape[0])


@torch.library.register_fake("blconv::fold")
def _(v: Tensor, kind: str, numbers: list[int], shape: list[int], channels_last: bool) -> Tensor:
    outputs, channels, *taps = shape
    return v.new_empty(outputs, *taps, channels).movedim(-1, 1) if channels_last else v.new_empty(shape)


@torch.library.register_fake("blconv::contract")
def _(z: Tensor, w: Tensor, kind: str, numbers: list[int]) -> Tensor:
    return z.new_empty(z.shape[0], z.shape[1], matrices(kind, numbers)[2] * w.shape[0])


@torch.library.register_fake("blconv::low_pass")
def _(x: Tensor, axes: list[int], transposed: bool) -> Tensor:
    return _low_passed(x, axes, transposed)


def _keep_analyse(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.axes = inputs
    ctx.channels, ctx.channels_last = x.shape[1], is_channels_last(x)


def _analyse_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return synthesise(grad, ctx.axes, ctx.channels, ctx.channels_last), None


def _keep_synthesise(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.axes, _, ctx.channels_last = inputs


def _synthesise_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    layout = torch.channels_last if ctx.channels_last else torch.contiguous_format
    return analyse(grad.contiguous(memory_format=layout), ctx.axes), None, None, None


def _keep_pack(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    w, ctx.kind, ctx.numbers = inputs
    ctx.shape, ctx.channels_last = list(w.shape), is_channels_last(w)


def _pack_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return fold(grad, ctx.kind, ctx.numbers, ctx.shape, ctx.channels_last), None, None


def _keep_fold(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.kind, ctx.numbers, _, _ = inputs


def _fold_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    return pack(grad, ctx.kind, ctx.numbers), None, None, None, None


def _keep_contract(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, w, ctx.kind, ctx.numbers = inputs
    ctx.save_for_backward(z, w)


def _contract_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    z, w = ctx.saved_tensors
    dz = torch.bmm(grad, pack(w, ctx.kind, ctx.numbers).mT) if ctx.needs_input_grad[0] else None
    dw = None
    if ctx.needs_input_grad[1]:
        dv = torch.bmm(z.mT, grad)
        dw = fold(dv, ctx.kind, ctx.numbers, list(w.shape), is_channels_last(w))
    return dz, dw, None, None


def _keep_low_pass(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.axes, ctx.transposed = inputs
    ctx.layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format


def _low_pass_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return low_pass(grad.contiguous(memory_format=ctx.layout), ctx.axes, not ctx.transposed), None, None


for _name, _backward, _keep in (
    ("analyse", _analyse_backward, _keep_analyse),
    ("synthesise", _synthesise_backward, _keep_synthesise),
    ("pack", _pack_backward, _keep_pack),
    ("fold", _fold_backward, _keep_fold),
    ("contract", _contract_backward, _keep_contract),
    ("low_pass", _low_pass_backward, _keep_low_pass),
):
    torch.library.register_autograd(f"blconv::{_name}", _backward, setup_context=_keep)
