"""The method "dense", for maps of two or three pixels a side: one matrix pads, filters and convolves.

On such maps every output depends on every input. So the output is y = x M, where the input x is
(batch, C * H * W) and the matrix M is (C * H * W, O * H_out * W_out). For 2 x 2 pixels this takes 16
multiply-adds per pair of channels; the direct 3 x 3 convolution takes 36. The cost does not depend on the
compression or the transform size.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from blconv.geometry import DenseAxis, Geometry
from blconv.kernels import launches, operators
from blconv.kernels.limits import runs_dense_kernels
from blconv.layout import is_channels_last
from blconv.methods.spectral import to_autocast_dtype
from blconv.tables import table

SUBSCRIPTS = {1: "oct,tna->cano", 2: "octs,tna,smb->cabnmo"}


class _Product(Function):
    """The convolution with our kernels, as one node of autograd.

    The operator `blconv.kernels.operators.contract`, with torch's views around it, computes the same in
    several times the host time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, axes: tuple[DenseAxis, ...]) -> Tensor:
        ctx.axes = axes
        ctx.save_for_backward(x, weight)
        batch, outputs, (height, width) = x.shape[0], weight.shape[0], [axis.out for axis in axes]
        strides = height * width * outputs, 1, width * outputs, outputs
        y = x.new_empty_strided((batch, outputs, height, width), strides)
        matrix = launches.pack(weight, axes, transposed=True)
        # Not a view of the product's result: the network may change y in place.
        torch.bmm(_pixels(x), matrix.mT, out=_pixels(y))
        return y if is_channels_last(x) else y.contiguous()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        # The operators are differentiable, the launches are not.
        run = operators if torch.is_grad_enabled() else launches
        g = _pixels(dy)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dz = torch.bmm(g, run.pack(weight, ctx.axes).mT)
            batch, channels, height, width = x.shape
            dx = dz.view(batch, height, width, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            dv = torch.bmm(_pixels(x).mT, g)
            dw = run.fold(dv, ctx.axes, list(weight.shape), is_channels_last(weight))
        return dx, dw, None


def _pixels(x: Tensor) -> Tensor:
    """Return x (batch, C, H, W) as one matrix (1, batch, H * W * C), a view if x is channels_last."""
    return x.permute(0, 2, 3, 1).reshape(1, x.shape[0], -1)


# `_Product.apply` also tests for transforms of `torch.func`, which `runs_dense_kernels` has excluded.
_apply = super(Function, _Product).apply


_axes_of = lru_cache(maxsize=4096)(lambda geometry: geometry.dense_axes)


def convolve(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Compute the band-limited convolution of x (batch, C, [H,] W) with weight (O, C, [K_h,] K_w).

    The geometry must have one group. Returns (batch, O, [H_out,] W_out), which is channels_last in memory
    if x is, otherwise contiguous.
    """
    x = to_autocast_dtype(x)
    # `torch.compile` traces the arithmetic instead of the cache.
    axes = geometry.dense_axes if torch.compiler.is_compiling() else _axes_of(geometry)
    if runs_dense_kernels(x.device, x.dtype, geometry):
        weight = weight.to(x.dtype)
        if type(x) is Tensor and not torch.compiler.is_compiling():
            y: Tensor = _apply(x, weight, axes)
            return y
        y = operators.contract(_pixels(x), weight, axes)
        y = y.view(x.shape[0], *geometry.out, weight.shape[0]).movedim(-1, 1)
        return y if is_channels_last(x) else y.contiguous()
    reads = [table("low_pass_taps", (axis,), weight) for axis in axes]
    matrix = torch.einsum(SUBSCRIPTS[geometry.dims], weight, *reads)
    inputs = x.shape[1] * x[0, 0].numel()
    y = torch.matmul(x.reshape(x.shape[0], inputs), matrix.reshape(inputs, -1))
    y = y.view(x.shape[0], *geometry.out, weight.shape[0]).movedim(-1, 1)
    return y if is_channels_last(x) else y.contiguous()
