"""The windows of a max-pool: their sizes, and the number of a cell within its window."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 256  # of a window, at most, that fit into a byte


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
    def fit_in_bytes(self) -> bool:
        """Whether a byte can number the cells of a window, and at least one cell is always in the map."""
        # The first cell of a window that begins in the padding is less than a dilation from the edge.
        inside = all(size >= step > 0 for size, step in zip(self.input, self.dilation, strict=False))
        return self.kernel[0] * self.kernel[1] <= CELLS and inside

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output, by the rule of torch; raises the errors of torch."""
        return _output_size(self)

    def maxima(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima of x (batch, C, H, W) or (C, H, W), and their indices in the map, row by row."""
        return F.max_pool2d(
            x, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode, return_indices=True
        )

    def offsets(self, indices: Tensor) -> Tensor:
        """Return the number of each maximum within its window, uint8, from its index in the map."""
        top, left = self._corners(indices)
        down = (indices // self.input[1] - top) // self.dilation[0]
        return (down * self.kernel[1] + (indices % self.input[1] - left) // self.dilation[1]).byte()

    def indices(self, offsets: Tensor) -> Tensor:
        """Return the index in the map of each maximum, from its number within its window."""
        top, left = self._corners(offsets)
        cells = offsets.long()
        down, across = cells // self.kernel[1], cells % self.kernel[1]
        return (down * self.dilation[0] + top) * self.input[1] + across * self.dilation[1] + left

    def _corners(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first row and the first column of each window: (H_out, 1), (W_out,)."""
        rows, columns = (
            torch.arange(y.shape[axis], device=y.device) * self.stride[axis] - self.padding[axis]
            for axis in (-2, -1)
        )
        return rows[:, None], columns


@lru_cache(maxsize=1024)
def _output_size(windows: Windows) -> tuple[int, int]:
    height, width = windows.maxima(torch.empty(1, *windows.input, device="meta"))[0].shape[-2:]
    return height, width
