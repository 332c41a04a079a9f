"""Max-pooling and its gradient from one byte per output, each in one pass over memory.

    max_pool_forward   y = the largest cell of each window, and the number of that cell, row by row
    max_pool_backward  out = for each pixel, the sum of the gradients of the windows whose maximum it was

A thread of the forward kernel computes one output, and a thread of the backward kernel computes the gradient
of one pixel of the input. If channels are last, a thread does this for four neighbouring channels, so that a
read is up to 16 bytes and the positions of the windows are computed once for four channels. At most
ceil(kernel / stride) windows per axis contain a pixel. The backward kernel adds their gradients in float32
and in torch's order, which does not depend on the order of the threads. With 3 x 3 windows at stride 2 and
float32, each of the two kernels moves 21 bytes per output through memory (forward: 16 read, 5 written).

The rules are those of torch. The maximum is the first of several equal numbers, or the last NaN if there is
one, and never a cell of the padding. In place of a cell outside the map, a window reads its nearest cell
inside the map once more. By the rules above this does not change the result, and all reads are independent.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from numba import cuda, float32, int32, uint32
from torch import Tensor

from blconv.kernels.primitives.vectors import pointer, vector_reader, vector_writer
from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.runtime.program import launch
from blconv.layout import is_channels_last
from blconv.pool_windows import Windows

THREADS = 256
VECTOR = 4


@dataclass(frozen=True)
class MaxPoolSizes:
    """The sizes and types that a kernel is compiled for.

    `memory` is the type of the numbers. `channels` is the number of channels if channels are last, otherwise
    1. A thread computes `vector` neighbouring channels.
    """

    windows: Windows
    memory: str
    channels: int
    vector: int

    @staticmethod
    def of(source: Tensor, windows: Windows, *, channels_last: bool) -> "MaxPoolSizes":
        """Return the sizes of a kernel that reads `source`."""
        channels = source.shape[1] if channels_last else 1
        aligned = source.data_ptr() % (VECTOR * source.element_size()) == 0
        vector = VECTOR if channels % VECTOR == 0 and aligned else 1
        return MaxPoolSizes(windows, str(source.dtype).removeprefix("torch."), channels, vector)


def max_pool_forward(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return the maxima of x, (batch, C, H, W) or (C, H, W), and their cell numbers in their windows, uint8.

    The cells of a window are numbered row by row. x must be dense.
    """
    channels_last = is_channels_last(x)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    y = torch.empty((*x.shape[:-2], *windows.out), dtype=x.dtype, device=x.device, memory_format=layout)
    offsets = torch.empty_like(y, dtype=torch.uint8)
    sizes = MaxPoolSizes.of(x, windows, channels_last=channels_last)
    _launch(forward_kernel(sizes), x, offsets, y, sizes)
    return y, offsets


def max_pool_backward(grad: Tensor, offsets: Tensor, out: Tensor, windows: Windows) -> Tensor:
    """Write the gradient of the input of `max_pool_forward` to `out`, and return `out`.

    `grad` is the gradient of the maxima, and `offsets` are their cell numbers. All tensors must have the same
    memory format.
    """
    sizes = MaxPoolSizes.of(grad, windows, channels_last=is_channels_last(out))
    _launch(backward_kernel(sizes), grad, offsets, out, sizes)
    return out


def _launch(kernel: Kernel, source: Tensor, offsets: Tensor, out: Tensor, sizes: MaxPoolSizes) -> None:
    count = out.numel() // sizes.vector
    if count:
        words = offsets.as_strided((offsets.numel(),), (1,))
        words = words.view(torch.uint32) if sizes.vector == VECTOR else words
        launch(kernel, -(-count // THREADS), source, words, out, count)


@lru_cache
def forward_kernel(sizes: MaxPoolSizes) -> Kernel:
    """Return the kernel of `max_pool_forward`, whose arguments are (x, offsets, y, number of vectors in y).

    A vector is the neighbouring numbers that a thread writes at once.
    """
    (H, W), (OUT_H, OUT_W), (ROWS, COLUMNS) = sizes.windows.input, sizes.windows.out, sizes.windows.kernel
    (STRIDE_H, STRIDE_W), (PAD_H, PAD_W) = sizes.windows.stride, sizes.windows.padding
    STEP_H, STEP_W = sizes.windows.dilation
    LANES, GROUPS = sizes.vector, sizes.channels // sizes.vector
    read, write = vector_reader(sizes.memory, LANES), vector_writer(sizes.memory, LANES)

    def max_pool_forward(x: Any, offsets: Any, y: Any, count: int) -> None:
        values = cuda.local.array(LANES, float32)
        best = cuda.local.array(LANES, float32)
        cells = cuda.local.array(LANES, uint32)
        i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if i < count:
            plane = i // (GROUPS * OUT_W * OUT_H)
            top = i // (GROUPS * OUT_W) % OUT_H * STRIDE_H - PAD_H
            left = i // GROUPS % OUT_W * STRIDE_W - PAD_W
            first_row, last_row = (max(-top, 0) + STEP_H - 1) // STEP_H, (H - 1 - top) // STEP_H
            first, last = (max(-left, 0) + STEP_W - 1) // STEP_W, (W - 1 - left) // STEP_W
            for e in range(LANES):
                best[e] = -float32(torch.inf)
                cells[e] = first_row * COLUMNS + first
            for down in range(ROWS):
                row = min(max(down, first_row), last_row)
                line = (plane * H + top + row * STEP_H) * W + left
                for across in range(COLUMNS):
                    column = min(max(across, first), last)
                    read(values, x, (line + column * STEP_W) * GROUPS + i % GROUPS)
                    for e in range(LANES):
                        if values[e] > best[e] or values[e] != values[e]:
                            best[e] = values[e]
                            cells[e] = row * COLUMNS + column
            word = uint32(0)
            for e in range(LANES):
                word |= cells[e] << (8 * e)
            offsets[i] = word
            write(y, i, best)

    return Kernel(max_pool_forward, _signature(sizes), THREADS, constants=sizes)


@lru_cache
def backward_kernel(sizes: MaxPoolSizes) -> Kernel:
    """Return the kernel of `max_pool_backward`, whose arguments are (grad, offsets, out, vectors in out).

    The last argument is the number of vectors; a thread writes the neighbouring numbers of a vector at once.
    """
    (H, W), (OUT_H, OUT_W), (ROWS, COLUMNS) = sizes.windows.input, sizes.windows.out, sizes.windows.kernel
    (STRIDE_H, STRIDE_W), (PAD_H, PAD_W) = sizes.windows.stride, sizes.windows.padding
    STEP_H, STEP_W = sizes.windows.dilation
    EARLIER_H, EARLIER_W = (ROWS - 1) * STEP_H // STRIDE_H, (COLUMNS - 1) * STEP_W // STRIDE_W
    LANES, GROUPS = sizes.vector, sizes.channels // sizes.vector
    read, write = vector_reader(sizes.memory, LANES), vector_writer(sizes.memory, LANES)

    def max_pool_backward(grad: Any, offsets: Any, out: Any, count: int) -> None:
        values = cuda.local.array(LANES, float32)
        sums = cuda.local.array(LANES, float32)
        i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if i < count:
            plane = i // (GROUPS * W * H)
            row, column = i // (GROUPS * W) % H + PAD_H, i // GROUPS % W + PAD_W
            for e in range(LANES):
                sums[e] = 0
            for m in range(EARLIER_H + 1):
                above = row // STRIDE_H - EARLIER_H + m  # the row of windows
                down = row - above * STRIDE_H
                sees_row = 0 <= above < OUT_H and down % STEP_H == 0 and down // STEP_H < ROWS
                line = (plane * OUT_H + min(max(above, 0), OUT_H - 1)) * OUT_W
                for n in range(EARLIER_W + 1):
                    before = column // STRIDE_W - EARLIER_W + n
                    across = column - before * STRIDE_W
                    sees = 0 <= before < OUT_W and across % STEP_W == 0 and across // STEP_W < COLUMNS
                    cell = down // STEP_H * COLUMNS + across // STEP_W if sees_row and sees else -1
                    at = (line + min(max(before, 0), OUT_W - 1)) * GROUPS + i % GROUPS
                    word = offsets[at]
                    read(values, grad, at)
                    for e in range(LANES):
                        if int32(word >> (8 * e)) & 255 == cell:
                            sums[e] += values[e]
            write(out, i, sums)

    return Kernel(max_pool_backward, _signature(sizes), THREADS, constants=sizes)


def _signature(sizes: MaxPoolSizes) -> tuple[str, ...]:
    numbers = pointer(sizes.memory)
    return (numbers, "uint32*" if sizes.vector == VECTOR else "uint8*", numbers, "int64")
