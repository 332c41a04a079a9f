"""ReLU and its gradient from one bit per element, each in one pass over memory.

    relu_forward   y = max(x, 0), and a bit for every element that was set to zero; y may be x
    relu_backward  out = grad, and 0 where the bit is set

With n bytes in all, byte j has the bits of elements j, j + n, .., j + 7 * n, in the order of memory. A thread
computes one byte: it first reads eight numbers and then writes eight. Neighbouring threads read neighbouring
numbers, so a warp moves 128 bytes at once. In float32, 8 1/8 bytes per element are moved in total. A float
and the integer with the same bits have the same sign, so the kernels treat numbers as integers of the same
width.
"""

from functools import lru_cache
from typing import Any

import torch
from numba import cuda, int32
from torch import Tensor

from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.runtime.program import launch

THREADS = 256
INFINITY = {torch.float32: 0x7F800000, torch.bfloat16: 0x7F80, torch.float16: 0x7C00}
POINTERS = {torch.float32: "int32*", torch.bfloat16: "int16*", torch.float16: "int16*"}


def relu_forward(x: Tensor, y: Tensor) -> Tensor:
    """Write max(x, 0) to y, which may be x; return the bits, uint8 (ceil(elements / 8),).

    A bit is 1 if the element was set to zero. x and y must be dense, of the same memory format and of a dtype
    in `POINTERS`.
    """
    bits = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8, device=x.device)
    _launch(forward_kernel(x.dtype), x, y, bits)
    return bits


def relu_backward(grad: Tensor, bits: Tensor) -> Tensor:
    """Return `grad`, but 0 for the elements whose bit is set.

    `bits` come from `relu_forward`. `grad` must be dense and have the memory format of that function's input.
    """
    out = torch.empty_like(grad)
    _launch(backward_kernel(grad.dtype), grad, out, bits)
    return out


def _launch(kernel: Kernel, x: Tensor, y: Tensor, bits: Tensor) -> None:
    if count := bits.numel():
        launch(kernel, -(-count // THREADS), x, y, bits, count, x.numel())


@lru_cache
def forward_kernel(dtype: torch.dtype) -> Kernel:
    """Return the kernel of `relu_forward`, whose arguments are (x, y, bits, count, elements).

    count is the number of bytes in bits, and elements is the number of elements of x.
    """
    infinity = INFINITY[dtype]
    magnitude = {4: 0x7FFFFFFF, 2: 0x7FFF}[dtype.itemsize]

    def relu_forward(x: Any, y: Any, bits: Any, count: int, elements: int) -> None:
        numbers = cuda.local.array(8, int32)  # all reads before the first write: they overlap
        j = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if j < count:
            for i in range(8):
                numbers[i] = x[min(j + i * count, elements - 1)]
            byte = 0
            for i in range(8):
                if j + i * count < elements:
                    # Zero or a sign bit, except for a NaN, which ReLU passes on.
                    is_zero = numbers[i] <= 0 and (numbers[i] & magnitude) <= infinity
                    byte |= is_zero << i
                    y[j + i * count] = 0 if is_zero else numbers[i]
            bits[j] = byte

    return Kernel(relu_forward, _signature(dtype), THREADS, constants=dtype)


@lru_cache
def backward_kernel(dtype: torch.dtype) -> Kernel:
    """Return the kernel of `relu_backward`, whose arguments are (grad, out, bits, count, elements).

    count is the number of bytes in bits, and elements is the number of elements of grad.
    """

    def relu_backward(grad: Any, out: Any, bits: Any, count: int, elements: int) -> None:
        numbers = cuda.local.array(8, int32)
        j = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if j < count:
            byte = int32(bits[j])
            for i in range(8):
                numbers[i] = grad[min(j + i * count, elements - 1)]
            for i in range(8):
                if j + i * count < elements:
                    out[j + i * count] = 0 if (byte >> i) & 1 else numbers[i]

    return Kernel(relu_backward, _signature(dtype), THREADS, constants=dtype)


def _signature(dtype: torch.dtype) -> tuple[str, ...]:
    pointer = POINTERS[dtype]
    return (pointer, pointer, "uint8*", "int64", "int64")
