"""The windows of a max-pool: their sizes, and the position of a cell in its window as one number.

The cells of a window are its kernel_h x kernel_w places, numbered row by row.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 256  # cells of a window, at most, for their numbers to fit into a byte


@dataclass(frozen=True)
class Windows:
    """The windows of an `nn.MaxPool2d` with these settings on maps of the size `input`, (height, width).

    The other pairs are (vertical, horizontal).
    """

    input: tuple[int, int]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool

    @property
    def fit_in_bytes(self) -> bool:
        """Whether a byte can hold a cell's number, and every window has at least one cell inside the map."""
        # In a window that begins in the padding, the first cell inside is less than a dilation from the edge.
        inside = all(size >= step > 0 for size, step in zip(self.input, self.dilation, strict=False))
        return self.kernel[0] * self.kernel[1] <= CELLS and inside

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output, by torch's rule. Raises torch's errors for illegal settings."""
        return _output_size(self)

    def maxima(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima of x, (batch, C, H, W) or (C, H, W), and the index of each maximum, int64.

        The index is the number of the pixel with the maximum, counted row by row in the input map.
        """
        return F.max_pool2d(
            x, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode, return_indices=True
        )

    def offsets(self, indices: Tensor) -> Tensor:
        """Return the cell number of each maximum in its window, uint8, from its index in the map.

        `indices` is the second result of `maxima`.
        """
        top, left = self._corners(indices)
        down = (indices // self.input[1] - top) // self.dilation[0]
        return (down * self.kernel[1] + (indices % self.input[1] - left) // self.dilation[1]).byte()

    def indices(self, offsets: Tensor) -> Tensor:
        """Return the index of each maximum in the map, from its cell number: the inverse of `offsets`."""
        top, left = self._corners(offsets)
        cells = offsets.long()
        down, across = cells // self.kernel[1], cells % self.kernel[1]
        return (down * self.dilation[0] + top) * self.input[1] + across * self.dilation[1] + left

    def _corners(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row (H_out, 1) and the column (W_out,) of each window's first cell.

        y is a tensor (..., H_out, W_out). Windows that begin in the padding have negative rows or columns.
        """
        rows, columns = (
            torch.arange(y.shape[axis], device=y.device) * self.stride[axis] - self.padding[axis]
            for axis in (-2, -1)
        )
        return rows[:, None], columns


@lru_cache(maxsize=1024)
def _output_size(windows: Windows) -> tuple[int, int]:
    height, width = windows.maxima(torch.empty(1, *windows.input, device="meta"))[0].shape[-2:]
    return height, width
