"""The CUDA operations of the spectral form as torch operators: differentiable, traceable, capturable.

    z = analyse(x, axes)           pixels -> kept coefficients             z  (Q, batch, parts C)
    Y = contract(z, w, kind, ...)  one product a frequency                 Y  (Q, batch, parts O)
    y = synthesise(Y, axes, ...)   coefficients -> pixels
    V = pack(w, kind, ...)         filters -> their matrices               V  (Q, parts C, parts O)
    y = low_pass(x, axes, ...)     A_rows x A_columns^T on every plane, or its adjoint

analyse and synthesise are each other's adjoint, so are pack and fold; contract saves z and w and packs
again in its backward pass. So what is kept for the backward pass is z alone, and any order of
derivative is made of the same operators. `axes` are the numbers of two `AxisWaves`: rows, columns.
`kind` and `numbers` name the table of `blconv.tables` that makes matrices of filters: "filter_table" for the
spectral form, "pixel_filter_table" for the dense one, whose z are pixels (1, batch, H W C). The axes of
low_pass are the numbers of two `AxisBand`; its adjoint is itself, transposed, and nothing is kept for it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from blconv.kernels import launches
from blconv.kernels.launches import empty_images, empty_low_pass, matrix_sizes
from blconv.kernels.transforms.fragments import coefficient_count, part_count
from blconv.layout import is_channels_last

LIBRARY = torch.library.Library("blconv", "DEF")
LIBRARY.define("analyse(Tensor x, int[] axes) -> Tensor")
LIBRARY.define("synthesise(Tensor z, int[] axes, int channels, bool channels_last) -> Tensor")
LIBRARY.define("pack(Tensor w, str kind, int[] numbers) -> Tensor")
LIBRARY.define("fold(Tensor v, str kind, int[] numbers, int[] shape, bool channels_last) -> Tensor")
LIBRARY.define("contract(Tensor z, Tensor w, str kind, int[] numbers) -> Tensor")
LIBRARY.define("low_pass(Tensor x, int[] axes, bool transposed) -> Tensor")

LIBRARY.impl("analyse", launches.analyse, "CUDA")
LIBRARY.impl("synthesise", launches.synthesise, "CUDA")
LIBRARY.impl("pack", launches.pack, "CUDA")
LIBRARY.impl("fold", launches.fold, "CUDA")
LIBRARY.impl("contract", launches.contract, "CUDA")
LIBRARY.impl("low_pass", launches.low_pass, "CUDA")

analyse: Callable[..., Tensor] = torch.ops.blconv.analyse
synthesise: Callable[..., Tensor] = torch.ops.blconv.synthesise
pack: Callable[..., Tensor] = torch.ops.blconv.pack
fold: Callable[..., Tensor] = torch.ops.blconv.fold
contract: Callable[..., Tensor] = torch.ops.blconv.contract
low_pass: Callable[..., Tensor] = torch.ops.blconv.low_pass


@torch.library.register_fake("blconv::analyse")
def _(x: Tensor, axes: list[int]) -> Tensor:
    count = coefficient_count(axes[4], axes[9])
    return x.new_empty(count, x.shape[0], part_count(count) * x.shape[1])


@torch.library.register_fake("blconv::synthesise")
def _(z: Tensor, axes: list[int], channels: int, channels_last: bool) -> Tensor:
    return empty_images(z, axes, channels, channels_last)


@torch.library.register_fake("blconv::pack")
def _(w: Tensor, kind: str, numbers: list[int]) -> Tensor:
    count, inputs, outputs = matrix_sizes(kind, numbers)
    return w.new_empty(count, inputs * w.shape[1], outputs * w.shape[0])


@torch.library.register_fake("blconv::fold")
def _(v: Tensor, kind: str, numbers: list[int], shape: list[int], channels_last: bool) -> Tensor:
    outputs, channels, *taps = shape
    return v.new_empty(outputs, *taps, channels).movedim(-1, 1) if channels_last else v.new_empty(shape)


@torch.library.register_fake("blconv::contract")
def _(z: Tensor, w: Tensor, kind: str, numbers: list[int]) -> Tensor:
    return z.new_empty(z.shape[0], z.shape[1], matrix_sizes(kind, numbers)[2] * w.shape[0])


@torch.library.register_fake("blconv::low_pass")
def _(x: Tensor, axes: list[int], transposed: bool) -> Tensor:
    return empty_low_pass(x, axes, transposed)


def _setup_analyse(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.axes = inputs
    ctx.channels, ctx.channels_last = x.shape[1], is_channels_last(x)


def _analyse_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return synthesise(grad, ctx.axes, ctx.channels, ctx.channels_last), None


def _setup_synthesise(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.axes, _, ctx.channels_last = inputs


def _synthesise_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    layout = torch.channels_last if ctx.channels_last else torch.contiguous_format
    return analyse(grad.contiguous(memory_format=layout), ctx.axes), None, None, None


def _setup_pack(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    w, ctx.kind, ctx.numbers = inputs
    ctx.shape, ctx.channels_last = list(w.shape), is_channels_last(w)


def _pack_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return fold(grad, ctx.kind, ctx.numbers, ctx.shape, ctx.channels_last), None, None


def _setup_fold(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.kind, ctx.numbers, _, _ = inputs


def _fold_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    return pack(grad, ctx.kind, ctx.numbers), None, None, None, None


def _setup_contract(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
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


def _setup_low_pass(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.axes, ctx.transposed = inputs
    ctx.layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format


def _low_pass_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return low_pass(grad.contiguous(memory_format=ctx.layout), ctx.axes, not ctx.transposed), None, None


for _name, _backward, _setup in (
    ("analyse", _analyse_backward, _setup_analyse),
    ("synthesise", _synthesise_backward, _setup_synthesise),
    ("pack", _pack_backward, _setup_pack),
    ("fold", _fold_backward, _setup_fold),
    ("contract", _contract_backward, _setup_contract),
    ("low_pass", _low_pass_backward, _setup_low_pass),
):
    torch.library.register_autograd(f"blconv::{_name}", _backward, setup_context=_setup)
