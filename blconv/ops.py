"""The CUDA operations of the spectral form as torch operators: differentiable, traceable, capturable.

    z = analyse(x, axes)          pixels -> kept coefficients              z  (Q, batch, parts C)
    Y = contract(z, w, waves...)  one product a frequency
    y = synthesise(Y, axes, ...)  coefficients -> pixels
    V = pack(w, ...)              filters -> their blocks                  V  (Q, parts C, parts O)

analyse and synthesise are each other's adjoint, so are pack and fold; contract saves z and w and packs
again in its backward pass. So what is kept for the backward pass is z alone, and any order of
derivative is made of the same operators. `axes` are the numbers of two `AxisWaves`: rows, columns;
`taps` those of the filters: (taps, dilation) and (size, kept) of the rows, then of the columns.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from blconv.kernels.fragments import AxisWaves
from blconv.lowpass import is_channels_last

LIBRARY = torch.library.Library("blconv", "DEF")
LIBRARY.define("analyse(Tensor x, int[] axes) -> Tensor")
LIBRARY.define("synthesise(Tensor z, int[] axes, int channels, bool channels_last) -> Tensor")
LIBRARY.define("pack(Tensor w, int[] taps) -> Tensor")
LIBRARY.define("fold(Tensor v, int[] taps, int outputs, int channels) -> Tensor")
LIBRARY.define("contract(Tensor z, Tensor w, int[] taps) -> Tensor")

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
    from blconv.kernels.transforms import Planes

    rows, columns = AxisWaves(*axes[:5]), AxisWaves(*axes[5:])
    return Planes(
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
    from blconv.kernels.fragments import on_device
    from blconv.kernels.transforms import analysis

    channels_last, split = is_channels_last(x), _split(x.dtype)
    x = _aligned(x if channels_last else x.contiguous())
    batch, channels = x.shape[:2]
    planes = planes_of(x.dtype, channels, axes, channels_last, split)
    z = x.new_empty(planes.coefficients, batch, planes.parts * channels)
    rows, columns = AxisWaves(*axes[:5]), AxisWaves(*axes[5:])
    analysis(planes).launch(
        batch * planes.chunks, x, z,
        on_device("from", columns, -1, planes.vector, split, x.device),
        on_device("from", rows, 1, 1, split, x.device), batch,
    )  # fmt: skip
    return z


def _synthesise(z: Tensor, axes: list[int], channels: int, channels_last: bool) -> Tensor:
    from blconv.kernels.fragments import on_device
    from blconv.kernels.transforms import synthesis

    split = _split(z.dtype)
    z = _aligned(z.contiguous())
    planes = planes_of(z.dtype, channels, axes, channels_last, split)
    y = _images(z, channels, axes, channels_last)
    rows, columns = AxisWaves(*axes[:5]), AxisWaves(*axes[5:])
    last = ("to", 1) if channels_last else ("right", planes.vector)
    synthesis(planes).launch(
        z.shape[1] * planes.chunks, z, y,
        on_device("to", rows, 1, 1, split, z.device),
        on_device(last[0], columns, -1, last[1], split, z.device), z.shape[1],
    )  # fmt: skip
    return y


@lru_cache(maxsize=1024)
def tap_waves(taps: tuple[int, ...], device: torch.device) -> Tensor:
    """cos and sin of 2 pi (u a / N_h + v b / N_w) by (frequency, tap), (Q, taps, 2), on a device, kept.

    Times the coefficients that q stands for: 1 for the mean, 2 for the others.
    """
    (rows, row_step, height, kh), (columns, column_step, width, kw) = taps[:4], taps[4:]
    frequencies = [(u, 0) for u in range(kh)]
    frequencies += [(u, v) for v in range(1, kw) for u in range(1 - kh, kh)]
    with torch.inference_mode(False), torch.no_grad():
        u, v = torch.tensor(frequencies).T
        row_phase = u[:, None] * row_step * torch.arange(rows) % height
        column_phase = v[:, None] * column_step * torch.arange(columns) % width
        angle = row_phase[:, :, None].double() / height + column_phase[:, None, :].double() / width
        angle = 2 * math.pi * angle.flatten(1)
        count = torch.full((len(frequencies), 1, 1), 2.0, dtype=torch.float64)
        count[0] = 1
        return (torch.stack([angle.cos(), angle.sin()], -1) * count).float().contiguous().to(device)


def filters_of(dtype: torch.dtype, outputs: int, channels: int, taps: list[int], rounds: bool) -> Any:
    """What the filters' kernels are compiled for."""
    from blconv.kernels.filters import Filters

    count = coefficients(taps[3], taps[7])
    return Filters(channels, outputs, taps[0] * taps[4], count, MEMORY[dtype], rounds)


def _pack(w: Tensor, taps: list[int]) -> Tensor:
    from blconv.kernels.filters import pack

    rounds = w.dtype == torch.float32 and not _split(w.dtype)
    filters = filters_of(w.dtype, w.shape[0], w.shape[1], taps, rounds)
    v = w.new_empty(filters.coefficients, filters.parts * w.shape[1], filters.parts * w.shape[0])
    pack(filters).launch(filters.tiles * filters.runs, w.contiguous(), v, tap_waves(tuple(taps), w.device))
    return v


def _fold(v: Tensor, taps: list[int], outputs: int, channels: int) -> Tensor:
    from blconv.kernels.filters import fold

    filters = filters_of(v.dtype, outputs, channels, taps, rounds=False)
    sums = v.new_empty(filters.runs, outputs, channels, taps[0], taps[4], dtype=torch.float32)
    fold(filters).launch(filters.tiles * filters.runs, v.contiguous(), sums, tap_waves(tuple(taps), v.device))
    return (sums[0] if filters.runs == 1 else sums.sum(0)).to(v.dtype)


def _contract(z: Tensor, w: Tensor, taps: list[int]) -> Tensor:
    return torch.bmm(z, _pack(w, taps))


LIBRARY.impl("analyse", _analyse, "CUDA")
LIBRARY.impl("synthesise", _synthesise, "CUDA")
LIBRARY.impl("pack", _pack, "CUDA")
LIBRARY.impl("fold", _fold, "CUDA")
LIBRARY.impl("contract", _contract, "CUDA")

analyse: Callable[..., Tensor] = torch.ops.blconv.analyse
synthesise: Callable[..., Tensor] = torch.ops.blconv.synthesise
pack: Callable[..., Tensor] = torch.ops.blconv.pack
fold: Callable[..., Tensor] = torch.ops.blconv.fold
contract: Callable[..., Tensor] = torch.ops.blconv.contract


@torch.library.register_fake("blconv::analyse")
def _(x: Tensor, axes: list[int]) -> Tensor:
    count = coefficients(axes[4], axes[9])
    return x.new_empty(count, x.shape[0], _parts(count) * x.shape[1])


@torch.library.register_fake("blconv::synthesise")
def _(z: Tensor, axes: list[int], channels: int, channels_last: bool) -> Tensor:
    return _images(z, channels, axes, channels_last)


@torch.library.register_fake("blconv::pack")
def _(w: Tensor, taps: list[int]) -> Tensor:
    count = coefficients(taps[3], taps[7])
    return w.new_empty(count, _parts(count) * w.shape[1], _parts(count) * w.shape[0])


@torch.library.register_fake("blconv::fold")
def _(v: Tensor, taps: list[int], outputs: int, channels: int) -> Tensor:
    return v.new_empty(outputs, channels, taps[0], taps[4])


@torch.library.register_fake("blconv::contract")
def _(z: Tensor, w: Tensor, taps: list[int]) -> Tensor:
    return z.new_empty(z.shape[0], z.shape[1], _parts(z.shape[0]) * w.shape[0])


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
    w, ctx.taps = inputs
    ctx.outputs, ctx.channels = w.shape[:2]


def _pack_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return fold(grad, ctx.taps, ctx.outputs, ctx.channels), None


def _keep_fold(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.taps, _, _ = inputs


def _fold_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return pack(grad, ctx.taps), None, None, None


def _keep_contract(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, w, ctx.taps = inputs
    ctx.save_for_backward(z, w)


def _contract_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    z, w = ctx.saved_tensors
    dz = torch.bmm(grad, pack(w, ctx.taps).mT) if ctx.needs_input_grad[0] else None
    dw = None
    if ctx.needs_input_grad[1]:
        dw = fold(torch.bmm(z.mT, grad), ctx.taps, w.shape[0], w.shape[1])
    return dz, dw, None


for _name, _backward, _keep in (
    ("analyse", _analyse_backward, _keep_analyse),
    ("synthesise", _synthesise_backward, _keep_synthesise),
    ("pack", _pack_backward, _keep_pack),
    ("fold", _fold_backward, _keep_fold),
    ("contract", _contract_backward, _keep_contract),
):
    torch.library.register_autograd(f"blconv::{_name}", _backward, setup_context=_keep)
