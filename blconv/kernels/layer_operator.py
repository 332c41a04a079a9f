"""The whole method "spectral" as one torch operator, and its gradients as another, for compiled code.

    y, z = convolve(x, w, axes)    analyse, contract and synthesise in one

The dispatch of an operator whose code is Python takes tens of microseconds of host time. So compiled code
calls one operator in each pass, instead of three in the forward and six in the backward pass. Second
derivatives use the operators of `blconv.kernels.operators`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from blconv.geometry import TransformAxis
from blconv.kernels import launches
from blconv.kernels.convolution import LayerAxes, convolution
from blconv.kernels.operators import LIBRARY, analyse, fold, ops, pack, synthesise
from blconv.kernels.plans import dense, is_split, readable
from blconv.kernels.transforms.fragments import coefficient_count, part_count
from blconv.layout import is_channels_last

LIBRARY.define("convolve(Tensor x, Tensor w, int[] axes) -> (Tensor, Tensor)")
LIBRARY.define(
    "convolve_backward(Tensor dy, Tensor z, Tensor w, int[] axes, int channels, bool channels_last, "
    "bool to_x, bool to_w) -> (Tensor, Tensor)"
)


def convolve(x: Tensor, w: Tensor, axes: LayerAxes) -> Tensor:
    """Return the convolution (batch, O, H_out, W_out) of x (batch, C, H, W) with w (O, C, K_h, K_w)."""
    y: Tensor = ops.convolve(x, w, [number for step in axes for axis in step for number in axis])[0]
    return y


@lru_cache(maxsize=4096)
def _layer_axes(numbers: tuple[int, ...]) -> LayerAxes:
    """Return the axes of input, output and filters from the fields of all six axes in one tuple."""
    axes = [TransformAxis._make(numbers[n : n + 5]) for n in range(0, 30, 5)]
    return LayerAxes(*zip(axes[::2], axes[1::2], strict=True))


def _convolve(x: Tensor, w: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    (x, last), (w, w_last) = readable(x), dense(w)
    plan = convolution(
        _layer_axes(tuple(axes)), x.dtype, x.shape[1], w.shape[0], (last, w_last), is_split(x.dtype), x.device
    )
    y, z = plan.forward(x, w, False)
    return y, z


def _convolve_backward(
    dy: Tensor, z: Tensor, w: Tensor, axes: Sequence[int], channels: int, last: bool, to_x: bool, to_w: bool
) -> tuple[Tensor, Tensor]:
    w, w_last = dense(w)
    plan = convolution(
        _layer_axes(tuple(axes)), z.dtype, channels, w.shape[0], (last, w_last), is_split(z.dtype), z.device
    )
    dx, dw = plan.backward(z, w, dy, to_x=to_x, to_w=to_w)
    return z.new_empty(0) if dx is None else dx, w.new_empty(0) if dw is None else dw


KERNELS: dict[str, Callable[..., Any]] = {"convolve": _convolve, "convolve_backward": _convolve_backward}
for _name, _run in KERNELS.items():
    LIBRARY.impl(_name, _run, "CUDA")


@torch.library.register_fake("blconv::convolve")
def _(x: Tensor, w: Tensor, axes: list[int]) -> tuple[Tensor, Tensor]:
    inputs, outputs, _ = _layer_axes(tuple(axes))
    count = coefficient_count(inputs[0].kept, inputs[1].kept)
    z = x.new_empty(count, x.shape[0], part_count(count) * x.shape[1])
    return launches.empty_images(z, outputs, w.shape[0], is_channels_last(x)), z


@torch.library.register_fake("blconv::convolve_backward")
def _(
    dy: Tensor, z: Tensor, w: Tensor, axes: list[int], channels: int, last: bool, to_x: bool, to_w: bool
) -> tuple[Tensor, Tensor]:
    inputs, _, _ = _layer_axes(tuple(axes))
    dx = launches.empty_images(z, inputs, channels, last) if to_x else z.new_empty(0)
    if not to_w:
        return dx, w.new_empty(0)
    layout = torch.channels_last if is_channels_last(w) else torch.contiguous_format
    return dx, torch.empty(w.shape, dtype=w.dtype, device=w.device, memory_format=layout)


def _setup_convolve(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, w, ctx.numbers = inputs
    ctx.axes, ctx.channels, ctx.last = _layer_axes(tuple(ctx.numbers)), x.shape[1], is_channels_last(x)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], w)


def _convolve_gradients(
    ctx: Any, dy: Tensor | None, dz: Tensor | None
) -> tuple[Tensor | None, Tensor | None, None]:
    z, w = ctx.saved_tensors
    to_x, to_w = ctx.needs_input_grad[:2]
    if dy is None or dz is not None or torch.is_grad_enabled():
        dx, dw = differentiable_backward(ctx, z, w, dy, dz, None)
        return dx, dw, None
    dx, dw = ops.convolve_backward(dy, z, w, ctx.numbers, ctx.channels, ctx.last, to_x, to_w)
    return dx if to_x else None, dw if to_w else None, None


def differentiable_backward(
    ctx: Any, z: Tensor, w: Tensor, dy: Tensor | None, dz: Tensor | None, g: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of the input x and the filters `w`, computed by differentiable operators.

    `dy`, `dz` and `g` are the gradients of the output, of the input's coefficients `z`, and of the output's
    coefficients; each may be None. `ctx` has the layer's `axes`, the number of `channels` of x, and `last`,
    which states whether x and the output are channels_last. A returned gradient that is not needed is None.
    """
    inputs, outputs, filters = ctx.axes
    to_x, to_w = ctx.needs_input_grad[:2]
    dx = dw = None
    if dy is not None:
        layout = torch.channels_last if ctx.last else torch.contiguous_format
        analysed = analyse(dy.contiguous(memory_format=layout), outputs)
        g = analysed if g is None else g + analysed
    if g is not None:
        if to_x:
            back = torch.bmm(g, pack(w, filters).mT)
            dz = back if dz is None else dz + back
        if to_w:
            dw = fold(torch.bmm(z.mT, g), filters, list(w.shape), is_channels_last(w))
    if dz is not None and to_x:
        dx = synthesise(dz, inputs, ctx.channels, ctx.last)
    return dx, dw


torch.library.register_autograd("blconv::convolve", _convolve_gradients, setup_context=_setup_convolve)
