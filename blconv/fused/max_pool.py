"""A max-pool that saves one byte per output for the backward pass.

Torch's max-pool saves its whole input and an index of eight bytes per output. But the gradient depends only
on the position of the maximum in each window, which fits in a byte for windows of up to 256 cells.
"""

from typing import Any

import torch
from torch import Tensor, nn

from blconv.fused.block import saves_for_backward
from blconv.kernels.limits import KERNEL_DTYPES, runs_operators
from blconv.layout import is_channels_last
from blconv.pool_windows import Windows


class MaxPoolFromOffsets(torch.autograd.Function):
    """Max-pooling that saves one byte per output: the position of the maximum in its window."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: Windows) -> Tensor:
        """Return the maxima of x, (batch, C, H, W) or (C, H, W), over all `windows`."""
        y, offsets = max_pool_forward(x, windows)
        ctx.save_for_backward(offsets)
        ctx.settings = windows, is_channels_last(x) or is_channels_last(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x: each output's gradient is added to the pixel that was its maximum."""
        (offsets,) = ctx.saved_tensors
        windows, channels_last = ctx.settings
        return max_pool_backward(grad, offsets, windows, channels_last=channels_last), None


class BlockMaxPool2d(nn.MaxPool2d):
    """A max-pool that saves one byte per output for the backward pass."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002 (torch's own argument name)
        """Return the maxima of `input`, (batch, C, H, W) or (C, H, W), as `nn.MaxPool2d` does."""
        saves = saves_for_backward() and input.requires_grad and input.dim() in (3, 4)
        if self.return_indices or not saves:
            return nn.MaxPool2d.forward(self, input)
        height, width = input.shape[-2:]
        windows = Windows(
            (height, width), _pair(self.kernel_size), _pair(self.stride), _pair(self.padding),
            _pair(self.dilation), self.ceil_mode,
        )  # fmt: skip
        return (
            MaxPoolFromOffsets.apply(input, windows)
            if windows.fit_in_bytes
            else nn.MaxPool2d.forward(self, input)
        )


def use_fused_max_pool(model: nn.Module) -> None:
    """Turn the model's `nn.MaxPool2d` into `BlockMaxPool2d`, in place; only the class changes."""
    for module in model.modules():
        if type(module) is nn.MaxPool2d:
            module.__class__ = BlockMaxPool2d


def max_pool_forward(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return the maxima of x, (batch, C, H, W) or (C, H, W), and their cell numbers in their windows, uint8.

    The cells of a window are numbered row by row. Both results have the same shape and memory format.
    """
    if _runs_kernels(x) and (x.is_contiguous() or is_channels_last(x)):
        from blconv.kernels.fused import max_pool as kernels  # here, because Numba is slow to import

        return kernels.max_pool_forward(x, windows)
    y, indices = windows.maxima(x)
    return y, windows.offsets(indices)


def max_pool_backward(grad: Tensor, offsets: Tensor, windows: Windows, *, channels_last: bool) -> Tensor:
    """Return the gradient of the input of `max_pool_forward` from `grad`, the gradient of the maxima.

    The gradient of a pixel is the sum of the gradients of all windows in which the pixel was the maximum.
    `offsets` are the cell numbers from `max_pool_forward`. `channels_last` selects the memory format of the
    result. The function is differentiable in `grad`.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (*grad.shape[:-2], *windows.input)
    # Our kernel writes the gradient to this tensor; torch only reads its shape and layout.
    out = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout)
    grad, offsets = (tensor.contiguous(memory_format=layout) for tensor in (grad, offsets))
    if _runs_kernels(out) and not torch.is_grad_enabled():
        from blconv.kernels.fused import max_pool as kernels

        return kernels.max_pool_backward(grad, offsets, out, windows)
    gradient: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
        grad, out, windows.kernel, windows.stride, windows.padding, windows.dilation, windows.ceil_mode,
        windows.indices(offsets),
    )  # fmt: skip
    return gradient


def _runs_kernels(x: Tensor) -> bool:
    return x.dtype in KERNEL_DTYPES and runs_operators(x.device)


def _pair(value: Any) -> tuple[int, ...]:
    """Return a setting of torch, an int or a tuple of one or two ints, as a pair."""
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return 2 * numbers if len(numbers) == 1 else numbers
