"""A ReLU that saves one bit per element: whether the element was set to zero."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.kernels.limits import KERNEL_DTYPES, is_installed
from blconv.layout import is_channels_last


def pack_bits(mask: Tensor) -> Tensor:
    """Return the bits of a boolean tensor in its order in memory: uint8 (ceil(elements / 8),).

    With n bytes in all, bit i of byte j is element j + i n, so that all reads and writes are contiguous.
    """
    flat = _in_memory_order(mask).flatten().view(torch.uint8)
    count = (flat.numel() + 7) // 8
    planes = F.pad(flat, (0, 8 * count - flat.numel())).view(8, count)
    return (planes << _shifts(mask.device)).sum(0, dtype=torch.uint8)


def unpack_bits(bits: Tensor, like: Tensor) -> Tensor:
    """Return the boolean mask, in the shape and layout of `like`, from the bits of `pack_bits`."""
    planes = (bits >> _shifts(bits.device)).bitwise_and_(1).view(torch.bool)
    order = _in_memory_order(like)
    flat = planes.flatten()[: like.numel()].view(order.shape)
    return flat if order is like else flat.movedim(-1, 1)


def relu_forward(x: Tensor, *, inplace: bool = False) -> tuple[Tensor, Tensor]:
    """Return max(x, 0), and a bit for each element that was set to zero."""
    if _runs_kernels(x) and (x.is_contiguous() or is_channels_last(x)):
        from blconv.kernels.fused import relu  # here, because Numba is slow to import

        y = x if inplace else torch.empty_like(x)
        bits = relu.relu_forward(x, y)
        torch.autograd.graph.increment_version(y)
        return y, bits
    y = x.relu_() if inplace else x.relu()
    return y, pack_bits(y <= 0)


def relu_backward(grad: Tensor, bits: Tensor, *, channels_last: bool) -> Tensor:
    """Return the gradient of ReLU's input: `grad`, with zeros where the bit is set.

    `channels_last` is the layout of ReLU's output and of the bits. Differentiable.
    """
    grad = grad.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    if _runs_kernels(grad) and not torch.is_grad_enabled():
        from blconv.kernels.fused import relu

        return relu.relu_backward(grad, bits)
    return grad.masked_fill(unpack_bits(bits, grad), 0)


class ReLUFromBits(torch.autograd.Function):
    """max(x, 0); saves one bit per element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
        """Return the positive part of x, of any shape."""
        if inplace:
            ctx.mark_dirty(x)
        y, bits = relu_forward(x, inplace=inplace)
        ctx.save_for_backward(bits)
        ctx.channels_last = is_channels_last(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient where x was positive, and zero elsewhere."""
        (bits,) = ctx.saved_tensors
        return relu_backward(grad, bits, channels_last=ctx.channels_last), None


def _runs_kernels(x: Tensor) -> bool:
    return x.device.type == "cuda" and x.dtype in KERNEL_DTYPES and is_installed()


def _in_memory_order(x: Tensor) -> Tensor:
    return x.movedim(1, -1) if is_channels_last(x) else x


def _shifts(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)[:, None]
