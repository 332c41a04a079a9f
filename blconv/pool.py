"""A maximum over windows that keeps one byte an output for the backward pass.

Torch's keeps its whole input and an index of eight bytes an output. But the gradient needs to know only
which of a window's cells was its maximum, and windows of up to 256 cells are numbered by a byte.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blconv.block import is_ours_to_keep
from blconv.kernels.limits import TYPES, runs_operators
from blconv.layout import is_channels_last

CELLS = 256  # of a window, at most, that a byte can number


@dataclass(frozen=True)
class Windows:
    """The windows of `nn.MaxPool2d` on maps of `input` (height, width); pairs are (down, across)."""

    input: tuple[int, int]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool

    @property
    def are_numbered(self) -> bool:
        """Whether a byte numbers a window's cells, and each window has one that is no padding."""
        # The first cell of a window that begins in the padding is less than a dilation from the edge.
        inside = all(size >= step > 0 for size, step in zip(self.input, self.dilation, strict=False))
        return self.kernel[0] * self.kernel[1] <= CELLS and inside

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output, by torch's own rule. Raises what torch raises."""
        return _out(self)

    def maxima(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Torch's maxima of x (batch, C, H, W) or (C, H, W), and their indices in the map, row by row."""
        return F.max_pool2d(
            x, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode, return_indices=True
        )

    def offsets(self, indices: Tensor) -> Tensor:
        """The number of each maximum within its window, uint8, from its index in the map."""
        top, left = self._corners(indices)
        down = (indices // self.input[1] - top) // self.dilation[0]
        return (down * self.kernel[1] + (indices % self.input[1] - left) // self.dilation[1]).byte()

    def indices(self, offsets: Tensor) -> Tensor:
        """The inverse of `offsets`."""
        top, left = self._corners(offsets)
        cells = offsets.long()
        down, across = cells // self.kernel[1], cells % self.kernel[1]
        return (down * self.dilation[0] + top) * self.input[1] + across * self.dilation[1] + left

    def _corners(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """First row of each row of windows, and first column of each column: (H_out, 1), (W_out,)."""
        rows, columns = (
            torch.arange(y.shape[axis], device=y.device) * self.stride[axis] - self.padding[axis]
            for axis in (-2, -1)
        )
        return rows[:, None], columns


class MaxPool(torch.autograd.Function):
    """The maxima of all windows, which saves one byte an output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: Windows) -> Tensor:
        """Return the maxima of x, (batch, C, H, W) or (C, H, W)."""
        y, offsets = maxima(x, windows)
        ctx.save_for_backward(offsets)
        ctx.settings = windows, is_channels_last(x) or is_channels_last(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Give each gradient to the pixel that was the maximum."""
        (offsets,) = ctx.saved_tensors
        windows, channels_last = ctx.settings
        return spread(grad, offsets, windows, channels_last=channels_last), None


class BlockMaxPool2d(nn.MaxPool2d):
    """A max-pool that keeps one byte an output for the backward pass."""

    def forward(self, input: Tensor) -> Any:  # noqa: A002 (torch's own argument name)
        """Return the maxima of `input`, (batch, C, H, W) or (C, H, W), as `nn.MaxPool2d` does."""
        if self.return_indices or not (is_ours_to_keep() and input.requires_grad and input.dim() in (3, 4)):
            return super().forward(input)
        height, width = input.shape[-2:]
        windows = Windows(
            (height, width), _pair(self.kernel_size), _pair(self.stride), _pair(self.padding),
            _pair(self.dilation), self.ceil_mode,
        )  # fmt: skip
        return MaxPool.apply(input, windows) if windows.are_numbered else super().forward(input)


def keep_offsets(model: nn.Module) -> None:
    """Turn the model's `nn.MaxPool2d`, in place and by their class alone, into `BlockMaxPool2d`."""
    for module in model.modules():
        if type(module) is nn.MaxPool2d:
            module.__class__ = BlockMaxPool2d


def maxima(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """The maxima, and the number of each within its window, uint8: shaped and laid out alike."""
    if _runs_kernels(x) and (x.is_contiguous() or is_channels_last(x)):
        from blconv.kernels import pool  # where it is used: Numba is slow to import

        return pool.maxima(x, windows)
    y, indices = windows.maxima(x)
    return y, windows.offsets(indices)


def spread(grad: Tensor, offsets: Tensor, windows: Windows, *, channels_last: bool) -> Tensor:
    """The gradient of the input of `maxima`: the sum of those of the windows it was the maximum of.

    `channels_last` is the layout of the input. Differentiable in grad.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (*grad.shape[:-2], *windows.input)
    # Of the input torch reads the shape and the layout alone; our kernel writes the gradient there.
    form = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout)
    grad, offsets = (tensor.contiguous(memory_format=layout) for tensor in (grad, offsets))
    if _runs_kernels(form) and not torch.is_grad_enabled():
        from blconv.kernels import pool

        return pool.spread(grad, offsets, form, windows)
    gradient: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
        grad, form, windows.kernel, windows.stride, windows.padding, windows.dilation, windows.ceil_mode,
        windows.indices(offsets),
    )  # fmt: skip
    return gradient


def _runs_kernels(x: Tensor) -> bool:
    return x.dtype in TYPES and runs_operators(x.device)


def _pair(value: Any) -> tuple[int, ...]:
    """Two numbers, of a setting that torch takes as one, or as one or two in a row."""
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return 2 * numbers if len(numbers) == 1 else numbers


@lru_cache(maxsize=1024)
def _out(windows: Windows) -> tuple[int, int]:
    height, width = windows.maxima(torch.empty(1, *windows.input, device="meta"))[0].shape[-2:]
    return height, width
