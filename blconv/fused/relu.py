"""A ReLU that saves one bit per element: whether the element was set to zero."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.kernels.limits import KERNEL_DTYPES, is_installed
from blconv.layout import is_channels_last


def pack_bits(mask: Tensor) -> Tensor:
    """Return the values of a boolean tensor, in the order of memory, as bits: uint8 (ceil(elements / 8),).

    With n bytes in all, bit i of byte j is element j + i * n. So all reads and writes are of neighbours in
    memory.
    """
    flat = _in_memory_order(mask).flatten().view(torch.uint8)
    count = (flat.numel() + 7) // 8
    planes = F.pad(flat, (0, 8 * count - flat.numel())).view(8, count)
    return (planes << _shifts(mask.device)).sum(0, dtype=torch.uint8)


def unpack_bits(bits: Tensor, like: Tensor) -> Tensor:
    """Return the boolean tensor that `pack_bits` has packed, with the shape and memory format of `like`."""
    planes = (bits >> _shifts(bits.device)).bitwise_and_(1).view(torch.bool)
    order = _in_memory_order(like)
    flat = planes.flatten()[: like.numel()].view(order.shape)
    return flat if order is like else flat.movedim(-1, 1)


def relu_forward(x: Tensor, *, inplace: bool = False) -> tuple[Tensor, Tensor]:
    """Return max(x, 0), and one bit per element: 1 if the element was set to zero.

    `pack_bits` documents the order of the bits. With `inplace`, max(x, 0) is written to x.
    """
    if _runs_kernels(x) and (x.is_contiguous() or is_channels_last(x)):
        from blconv.kernels.fused import relu  # here, because Numba is slow to import

        y = x if inplace else torch.empty_like(x)
        bits = relu.relu_forward(x, y)
        torch.autograd.graph.increment_version(y)
        return y, bits
    y = x.relu_() if inplace else x.relu()
    return y, pack_bits(y <= 0)


def relu_backward(grad: Tensor, bits: Tensor, *, channels_last: bool) -> Tensor:
    """Return the gradient of ReLU's input: `grad`, but 0 for the elements whose bit is 1.

    `bits` come from `relu_forward`. `channels_last` states whether ReLU's output was channels_last in memory,
    which determines the order of the bits. Differentiable in `grad`.
    """
    grad = grad.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    if _runs_kernels(grad) and not torch.is_grad_enabled():
        from blconv.kernels.fused import relu

        return relu.relu_backward(grad, bits)
    return grad.masked_fill(unpack_bits(bits, grad), 0)


class ReLUFromBits(torch.autograd.Function):
    """The function max(x, 0), which saves one bit per element for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
        """Return max(x, 0) for x of any shape; with `inplace`, x itself is overwritten."""
        if inplace:
            ctx.mark_dirty(x)
        y, bits = relu_forward(x, inplace=inplace)
        ctx.save_for_backward(bits)
        ctx.channels_last = is_channels_last(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return `grad` for the elements that were not set to zero, and 0 for the others."""
        (bits,) = ctx.saved_tensors
        return relu_backward(grad, bits, channels_last=ctx.channels_last), None


# `ReLUFromBits.apply` also tests for transforms of `torch.func`, which `saves_for_backward` has excluded.
relu_from_bits = super(torch.autograd.Function, ReLUFromBits).apply


def _runs_kernels(x: Tensor) -> bool:
    return x.device.type == "cuda" and x.dtype in KERNEL_DTYPES and is_installed()


def _in_memory_order(x: Tensor) -> Tensor:
    return x.movedim(1, -1) if is_channels_last(x) else x


def _shifts(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)[:, None]
