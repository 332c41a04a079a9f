"""The device functions of the module `words` in plain Python, for kernels in Numba's simulator.

A word is 32 bits that hold two 16-bit numbers of the type `memory`.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from blconv.kernels.primitives.simulated import BARRIER_SECONDS


class _Warp:
    def __init__(self) -> None:
        self.barrier = threading.Barrier(32)
        self.a, self.b = np.zeros((16, 8), np.uint32), np.zeros((8, 8), np.uint32)  # words along k
        self.product = np.zeros((16, 8), np.float32)


_warps: dict[tuple[int, int], _Warp] = {}
_lock = threading.Lock()


def _numbers(words: Any, memory: str) -> Any:
    """Return the float32 numbers (..., 2 n) of `words` (..., n), each of which holds two numbers."""
    halves = np.ascontiguousarray(words, np.uint32).view(np.uint16)
    if memory == "float16":
        return halves.view(np.float16).astype(np.float32)
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _word(numbers: Any, memory: str) -> np.uint32:
    """Return one word that holds two numbers, each rounded to nearest, ties to even."""
    single = np.array(numbers, np.float32)
    if memory == "float16":
        halves = single.astype(np.float16).view(np.uint16)
    else:
        bits = single.view(np.uint32)
        halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.uint32(halves.view(np.uint32)[0])


def low_halves(x: int, y: int) -> np.uint32:
    """Return a word with the low 16 bits of x in its low half and those of y in its high half."""
    return np.uint32((int(x) & 0xFFFF) | (int(y) & 0xFFFF) << 16)


def high_halves(x: int, y: int) -> np.uint32:
    """Return a word with the high 16 bits of x in its low half and those of y in its high half."""
    return np.uint32(int(x) >> 16 | (int(y) >> 16) << 16)


def packer(memory: str) -> Callable[..., np.uint32]:
    """Return the function (x, y) that rounds two numbers to `memory` and packs them in one word."""
    return lambda x, y: _word([x, y], memory)


def adder(memory: str) -> Callable[..., np.uint32]:
    """Return the function (x, y, z) that computes x * y + z for the first and the second numbers of words.

    Each result is rounded once.
    """

    def add(*words: int) -> np.uint32:
        x, y, z = (_numbers([word], memory).astype(np.float64) for word in words)
        return _word(x * y + z, memory)

    return add


def multiplier(memory: str) -> Callable[..., Any]:
    """Return the function that computes the warp's matrix product; see `multiplier` in the module `words`."""

    def multiply(*operands: Any) -> Any:
        a0, a1, a2, a3, b0, b1, c0, c1, c2, c3 = operands
        thread: Any = threading.current_thread()  # a thread of the simulator, which has its indices
        lane = thread.threadIdx.x % 32
        g, t = lane // 4, lane % 4
        with _lock:
            warp = _warps.setdefault((thread.blockIdx.x, thread.threadIdx.x // 32), _Warp())
        warp.a[g, t], warp.a[g + 8, t], warp.a[g, t + 4], warp.a[g + 8, t + 4] = a0, a1, a2, a3
        warp.b[g, t], warp.b[g, t + 4] = b0, b1
        if warp.barrier.wait(BARRIER_SECONDS) == 0:
            warp.product[:] = _numbers(warp.a, memory) @ _numbers(warp.b, memory).T
        warp.barrier.wait(BARRIER_SECONDS)
        p = warp.product
        result = c0 + p[g, 2 * t], c1 + p[g, 2 * t + 1], c2 + p[g + 8, 2 * t], c3 + p[g + 8, 2 * t + 1]
        warp.barrier.wait(BARRIER_SECONDS)
        return tuple(np.float32(value) for value in result)

    return multiply


def reader(width: int, *, again: bool = False) -> Callable[..., Any]:
    """Return the function (array, offset) that reads `width` words as a tuple."""

    def read(pointer: Any, offset: int) -> Any:
        count = 4 * width // pointer.itemsize
        assert offset % count == 0
        assert 0 <= offset <= len(pointer) - count
        return tuple(pointer[offset : offset + count].view(np.uint32))

    return read


def writer(width: int) -> Callable[..., None]:
    """Return the function (array, offset, words) that writes the first `width` words to the array."""

    def write(pointer: Any, offset: int, words: Any) -> None:
        count = 4 * width // pointer.itemsize
        assert offset % count == 0
        assert 0 <= offset <= len(pointer) - count
        pointer[offset : offset + count] = np.array(words[:width], np.uint32).view(pointer.dtype)

    return write


def shared_reader(width: int) -> Callable[..., Any]:
    """Return the function (shared array, offset) that reads `width` words as a tuple."""
    return reader(width)


def shared_writer(width: int) -> Callable[..., None]:
    """Return the function (shared array, offset, words) that writes the first `width` words to the array."""
    return writer(width)
