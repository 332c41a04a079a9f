"""The host code that runs the steps of a program: launches and matrix products, without Python between them.

A launch through the driver's Python bindings takes 7 to 15 us of host time, and a product by torch 13 us;
most of this time is for checks and the conversion of arguments. Numba compiles the loop over the steps for
the CPU, once per process. A launch then takes 4 us and a product 8 us. During the loop, the global
interpreter lock is released.

A call passes up to `WORDS` 64-bit words to a program: the number of images, the addresses of tensors, and the
bits of float32 numbers. A program refers to a word by its place in this order. A program is an int64 array of
steps, each of which begins with its kind:

    LAUNCH   aside, function, threads, shared bytes, blocks, blocks per image, number of arguments, and for
             each argument the place of its word and 0, or -1 and a constant
    PRODUCT  type, flags (1: left is transposed, 2: right is), number of matrices, rows, inner, columns, and
             the places of the words of left, right and out; a size of -1 is the number of images
    FORK     the side stream waits for the current one
    JOIN     the current stream waits for the side one

If "aside" is 1, a launch is on the side stream. Without a side stream, all launches are on the current one.
"""

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from blconv.kernels.runtime.driver import check, driver

LAUNCH, PRODUCT, FORK, JOIN = range(4)
WORDS = 14  # words that a call can give to a program, the number of images included
CUDA_VERSION = 12000  # of the driver's interface
CUDA_TYPES = {torch.float32: 0, torch.float16: 2, torch.bfloat16: 14}  # cudaDataType_t
COMPUTE_32F, ANY_ALGORITHM = 68, 99  # cublasComputeType_t, CUBLAS_GEMM_DEFAULT_TENSOR_OP
CUBLAS_ERROR = 10**6  # is added to a status of cuBLAS
_scales = np.array([1, 0], np.float32)  # factors of the product, and of the earlier content of `out`


def raise_for(status: int) -> None:
    """Raise `RuntimeError` unless `status`, which the compiled code has returned, is 0."""
    if status >= CUBLAS_ERROR:
        raise RuntimeError(f"cuBLAS returned the status {status - CUBLAS_ERROR}")
    if status:
        check(driver().CUresult(status))


@lru_cache(maxsize=1)
def cublas() -> Any:
    """Return the cuBLAS library that torch has loaded, or None if it is not a file of its own."""
    major = str(torch.version.cuda).split(".")[0]
    name = f"cublas64_{major}.dll" if os.name == "nt" else f"libcublas.so.{major}"
    try:
        return ctypes.CDLL(name)  # torch has loaded it
    except OSError:
        return None


@lru_cache(maxsize=1)
def compiled() -> Callable[..., int]:
    """Return the compiled function that runs a program: it returns 0, or the status of the first failed call.

    Its arguments are the array of steps, the handles of the side stream, of the event to fork and of the
    event to join, cuBLAS's handle, the handle of the current stream, and `WORDS` words.
    """
    from numba import int64, njit

    pointer, unsigned, signed, long = ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_longlong
    launch: Any = _driver_function(b"cuLaunchKernel", pointer, *[unsigned] * 7, *[pointer] * 3)
    record: Any = _driver_function(b"cuEventRecord", pointer, pointer)
    wait: Any = _driver_function(b"cuStreamWaitEvent", pointer, pointer, unsigned)
    library = cublas()
    # Without the library no program has a product (see `program`), but Numba still needs some address.
    product = launch if library is None else library.cublasGemmStridedBatchedEx
    operand = pointer, signed, signed, long  # address, type, leading dimension, stride
    multiply: Any = ctypes.CFUNCTYPE(
        signed, pointer, *[signed] * 5, pointer, *operand, *operand, pointer, *operand, *[signed] * 3
    )(ctypes.cast(product, ctypes.c_void_p).value or 0)
    one, zero = _scales.ctypes.data, _scales.ctypes.data + _scales.itemsize

    def run(
        steps: Any, side: int, forked: int, joined: int, handle: int, stream: int,
        images: int, a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int, j: int, k: int,
        l: int, m: int,
    ) -> Any:  # fmt: skip
        given = (images, a, b, c, d, e, f, g, h, i, j, k, l, m)
        words = np.empty(24, np.int64)
        places = np.empty(24, np.int64)
        for n in range(24):
            places[n] = words.ctypes.data + 8 * n
        at = 0
        status = 0
        while status == 0 and at < len(steps):
            if steps[at] == LAUNCH:
                count = steps[at + 7]
                for n in range(count):
                    place = steps[at + 8 + 2 * n]
                    words[n] = steps[at + 9 + 2 * n] if place < 0 else given[place]
                blocks = steps[at + 5] + images * steps[at + 6]
                on = side if steps[at + 1] != 0 and side != 0 else stream
                status = launch(
                    steps[at + 2], blocks, 1, 1, steps[at + 3], 1, 1, steps[at + 4], on, places.ctypes.data, 0
                )
                at += 8 + 2 * count
            elif steps[at] == PRODUCT:
                kind, flags, count = steps[at + 1], steps[at + 2], steps[at + 3]
                rows = images if steps[at + 4] < 0 else steps[at + 4]
                inner = images if steps[at + 5] < 0 else steps[at + 5]
                columns = images if steps[at + 6] < 0 else steps[at + 6]
                left, right = flags & 1, flags >> 1
                # cuBLAS has the columns of matrices in memory: it computes the transpose of the product.
                status = multiply(
                    handle, right, left, columns, rows, inner, one,
                    given[steps[at + 8]], kind, inner if right else columns, inner * columns,
                    given[steps[at + 7]], kind, rows if left else inner, rows * inner,
                    zero, given[steps[at + 9]], kind, columns, rows * columns,
                    count, COMPUTE_32F, ANY_ALGORITHM,
                )  # fmt: skip
                if status != 0:
                    status += CUBLAS_ERROR
                at += 10
            else:
                if side != 0 and steps[at] == FORK:
                    status = record(forked, stream)
                    if status == 0:
                        status = wait(side, forked, 0)
                elif side != 0:
                    status = record(joined, side)
                    if status == 0:
                        status = wait(stream, joined, 0)
                at += 1
        return status + 0 * (words[0] + places[0])  # keeps both arrays alive

    function: Callable[..., int] = njit(int64(int64[::1], *[int64] * (5 + WORDS)), nogil=True)(run)
    return function


def _driver_function(name: bytes, *arguments: Any) -> Any:
    status, address, _ = driver().cuGetProcAddress(name, CUDA_VERSION, 0)
    check(status)
    return ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(int(address))
