"""The paper's kernel (section 6.1): the product of two spectra, fused with the sum over the channels.

    out[i, j, q] = sum over l of a[i, l, q] * b[l, j, q], or with conj(b)

In this module, a plane is the Q coefficients with the same first two indices. One CUDA block computes one
output plane (i, j). The block has min(1024, Q) threads, which loop over the coefficients q and, for each q,
over the L channels l. So every output is written once, and threads need no barrier. The planes of a and b may
have any strides, so a transpose costs nothing. The coefficients of a plane are neighbours in memory, so a
warp reads 256 bytes of a and of b for each l. The threads share no data: for an output of 8 bytes, 16 * L
bytes are read, and repeated reads come from the L2 cache. This is the published algorithm, not a fast one.
"""

from functools import lru_cache
from typing import Any

import torch
from numba import cuda, float32
from torch import Tensor

from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.runtime.program import launch

MAX_THREADS = 1024  # of a block
SIGNATURE = ("float32*", "float32*", "float32*", *["int64"] * 7, "float32")


def multiply(a: Tensor, b: Tensor, conjugate: bool) -> Tensor:
    """Return the matrix products a @ b, or a @ conj(b) if `conjugate`, at each of Q frequencies.

    a is (I, L, Q), b is (L, J, Q) and the result (I, J, Q), all complex64. Raises `ValueError` for other
    dtypes.
    """
    for planes in (a, b):
        if planes.dtype != torch.complex64:
            raise ValueError(f"the kernel multiplies torch.complex64, got {planes.dtype}")
    a, b = (planes if planes.stride(2) == 1 else planes.contiguous() for planes in (a, b))
    rows, terms, count = a.shape
    columns = b.shape[1]
    out = a.new_empty(rows, columns, count)
    launch(
        kernel(min(MAX_THREADS, count)), rows * columns,
        _as_floats(out), _as_floats(a), _as_floats(b), columns, terms, count,
        *a.stride()[:2], *b.stride()[:2], -1.0 if conjugate else 1.0,
    )  # fmt: skip
    return out


def _as_floats(planes: Tensor) -> Tensor:
    """Return the memory of complex planes as a flat float32 tensor: real and imaginary parts alternate."""
    last = sum((n - 1) * step for n, step in zip(planes.shape, planes.stride(), strict=True))
    return torch.view_as_real(planes.as_strided((last + 1,), (1,))).flatten()


@lru_cache
def kernel(threads: int) -> Kernel:
    """Return the kernel with `threads` threads in a block; its parameters are those of the inner function."""

    def hadamard(
        out: Any, a: Any, b: Any, columns: int, terms: int, count: int,
        a_row: int, a_term: int, b_term: int, b_column: int, sign: float,
    ) -> None:  # fmt: skip
        row = cuda.blockIdx.x // columns
        column = cuda.blockIdx.x - row * columns
        for q in range(cuda.threadIdx.x, count, threads):
            left = row * a_row + q
            right = column * b_column + q
            first = second = third = float32(0)
            for _ in range(terms):
                a_real, a_imaginary = a[2 * left], a[2 * left + 1]
                b_real, b_imaginary = b[2 * right], sign * b[2 * right + 1]
                # Three multiplications instead of four; their sums are combined once, at the end.
                first += (a_real + a_imaginary) * b_real
                second += a_real * (b_imaginary - b_real)
                third += a_imaginary * (b_real + b_imaginary)
                left += a_term
                right += b_term
            place = 2 * (cuda.blockIdx.x * count + q)
            out[place] = first - third
            out[place + 1] = first + second

    return Kernel(hadamard, SIGNATURE, threads, constants=threads)
