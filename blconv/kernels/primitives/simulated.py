"""The device functions of the module `warp` in plain Python, for kernels in Numba's simulator.

In the simulator a CUDA thread is a Python thread, and a pointer is a flat numpy array. For a matrix product,
the 32 lanes of a warp wait at a barrier, one lane computes the product, and every lane takes its part of the
result.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

BARRIER_SECONDS = 60.0  # until a warp whose lanes do not all arrive is an error


class _Warp:
    def __init__(self) -> None:
        self.barrier = threading.Barrier(32)
        self.a, self.b = np.zeros((16, 8), np.float32), np.zeros((8, 8), np.float32)
        self.product = np.zeros((16, 8), np.float32)


_warps: dict[tuple[int, int], _Warp] = {}
_lock = threading.Lock()


def mma(
    a0: float, a1: float, a2: float, a3: float, b0: float, b1: float,
    c0: float, c1: float, c2: float, c3: float,
) -> tuple[np.float32, ...]:  # fmt: skip
    """Return the lane's four numbers of C + A B; see `mma` in `blconv.kernels.primitives.warp`."""
    thread: Any = threading.current_thread()  # a thread of the simulator, which has its indices
    lane = thread.threadIdx.x % 32
    g, t = lane // 4, lane % 4
    with _lock:
        warp = _warps.setdefault((thread.blockIdx.x, thread.threadIdx.x // 32), _Warp())
    warp.a[g, t], warp.a[g + 8, t], warp.a[g, t + 4], warp.a[g + 8, t + 4] = a0, a1, a2, a3
    warp.b[t, g], warp.b[t + 4, g] = b0, b1
    if warp.barrier.wait(BARRIER_SECONDS) == 0:
        warp.product[:] = warp.a @ warp.b
    warp.barrier.wait(BARRIER_SECONDS)
    p = warp.product
    result = c0 + p[g, 2 * t], c1 + p[g, 2 * t + 1], c2 + p[g + 8, 2 * t], c3 + p[g + 8, 2 * t + 1]
    warp.barrier.wait(BARRIER_SECONDS)
    return tuple(np.float32(value) for value in result)


def tf32(x: float) -> np.float32:
    """Return x rounded to 10 bits of mantissa, ties away from zero."""
    bits = np.array([x], np.float32).view(np.uint32)
    return np.float32(((bits + 0x1000) & 0xFFFFE000).view(np.float32)[0])


def loader(dtype: str, width: int, *, again: bool = False, written: bool = False) -> Callable[..., Any]:
    """Return the function (array, offset) that reads `width` numbers of `dtype` as float32."""

    def load(pointer: Any, offset: int) -> Any:
        assert offset % width == 0
        assert offset >= 0
        values = pointer[offset : offset + width]
        assert len(values) == width
        if dtype == "float16":
            values = values.view(np.float16).astype(np.float32)
        elif dtype == "bfloat16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values[0] if width == 1 else tuple(values)

    return load


def storer(dtype: str, width: int) -> Callable[..., None]:
    """Return the function (array, offset, values) that writes `width` numbers as `dtype`."""

    def store(pointer: Any, offset: int, values: Any) -> None:
        assert offset % width == 0
        assert 0 <= offset <= len(pointer) - width
        numbers = np.array(values, np.float32).reshape(-1)
        if dtype == "float16":
            numbers = numbers.astype(np.float16).view(np.uint16)
        elif dtype == "bfloat16":
            bits = numbers.view(np.uint32)
            numbers = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        pointer[offset : offset + width] = numbers

    return store


def store_pair(array: Any, offset: int, x: float, y: float) -> None:
    """Write x and y to `array` at an even offset."""
    assert offset % 2 == 0
    array[offset], array[offset + 1] = x, y


def shared_four(array: Any, offset: int) -> tuple[Any, ...]:
    """Return four neighbouring numbers of `array`, from an offset that is divisible by 4."""
    assert offset % 4 == 0
    return tuple(array[offset : offset + 4])
