"""Kernels and matrix products in order, as one call from Python.

    program = Program(device, steps, given=2, buffers=(Buffer((5, None, 64), torch.float32),))
    program.run(images, x, y)

The steps refer to the arguments of a call by their places. Place 0 (`IMAGES`) is the number of images, which
kernels take as an argument. The places from 1 on are the `given` tensors and numbers, followed by the
buffers, which exist during the call only. On a GPU, compiled code runs the steps (`host_code`). In Numba's
simulator, or if torch does not have cuBLAS as a separate file, Python runs the steps.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from blconv.kernels.runtime.driver import set_context
from blconv.kernels.runtime.host_code import (
    CUDA_TYPES,
    FORK,
    JOIN,
    LAUNCH,
    PRODUCT,
    WORDS,
    compiled,
    cublas,
    raise_for,
)
from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.runtime.side_stream import side_stream

ALIGNMENT = 256  # of a buffer, in bytes, as torch aligns tensors
NO_SIDE_STREAM = 0, 0, 0
LAYOUTS = 64  # numbers of images, at most, for which the layout of the buffers is remembered


class Place(NamedTuple):
    """An argument that is given at each call: the number of images, a tensor or a buffer."""

    number: int


IMAGES = Place(0)
Argument = Place | Tensor | int | float


class Buffer(NamedTuple):
    """A tensor that exists during a call only; a size of None is the number of images."""

    sizes: tuple[int | None, ...]
    dtype: torch.dtype

    def shape(self, images: int) -> list[int]:
        """Return the sizes for this number of images."""
        return [images if size is None else size for size in self.sizes]


class Launch(NamedTuple):
    """A launch of `blocks` CUDA blocks (for each image if `per_image`), on the side stream if `aside`."""

    kernel: Kernel
    blocks: int
    arguments: Sequence[Argument]
    per_image: bool = False
    aside: bool = False

    def encode(self, index: int) -> list[int]:
        """Load the kernel on device `index`; return this step as the numbers that `host_code` documents."""
        blocks = [0, self.blocks] if self.per_image else [self.blocks, 0]
        words = [
            n for a in self.arguments for n in ([a.number, 0] if isinstance(a, Place) else [-1, word(a)])
        ]
        head = LAUNCH, self.aside, self.kernel.load(index), self.kernel.threads, self.kernel.shared_bytes
        return [*head, *blocks, len(self.arguments), *words]


class Product(NamedTuple):
    """The matrix products out[n] = left[n] @ right[n] for `matrices` indices n.

    `left_transposed` and `right_transposed` state which operands are transposed first. A result has `rows`
    rows and `columns` columns, and each entry is a sum of `inner` terms. A size of None means the number of
    images.
    """

    left: Place
    right: Place
    out: Place
    matrices: int
    rows: int | None
    inner: int | None
    columns: int | None
    dtype: torch.dtype
    left_transposed: bool = False
    right_transposed: bool = False

    def encode(self, index: int) -> list[int]:
        """Return this step as the numbers that `host_code` documents."""
        sizes = [-1 if size is None else size for size in (self.rows, self.inner, self.columns)]
        flags = self.left_transposed + 2 * self.right_transposed
        places = self.left.number, self.right.number, self.out.number
        return [PRODUCT, CUDA_TYPES[self.dtype], flags, self.matrices, *sizes, *places]


class Fork(NamedTuple):
    """A step: later launches with `aside` run on the side stream, after all steps before this one."""

    def encode(self, index: int) -> list[int]:
        """Return this step as the numbers that `host_code` documents."""
        return [FORK]


class Join(NamedTuple):
    """A step: the current stream continues only when all earlier launches with `aside` have finished."""

    def encode(self, index: int) -> list[int]:
        """Return this step as the numbers that `host_code` documents."""
        return [JOIN]


Step = Launch | Product | Fork | Join


class Program:
    """Steps on one device; a call gives them `given` tensors and numbers and allocates `buffers`."""

    def __init__(
        self, device: torch.device, steps: Sequence[Step], given: int, buffers: Sequence[Buffer] = ()
    ) -> None:
        self._device, self._steps, self._buffers = device, steps, buffers
        self._unused = (0,) * (WORDS - 1 - given - len(buffers))
        self._bytes = torch.empty(0, dtype=torch.uint8, device=device)
        self._layouts: dict[int, tuple[int, list[int]]] = {}
        self._forks = any(isinstance(step, Fork) for step in steps)
        self._multiplies = any(isinstance(step, Product) for step in steps)
        self._interpreted = device.type == "cpu" or (self._multiplies and cublas() is None)
        if not self._interpreted:
            with torch.cuda.device(device):
                set_context(device.index)
                codes = [number for step in steps for number in step.encode(device.index)]
            self._codes, self._run = np.array(codes, np.int64), compiled()

    def run(self, images: int, *tensors: Tensor, numbers: Sequence[int | float] = ()) -> None:
        """Run the steps with the given tensors and then the given numbers, on the current stream.

        The kernels read and write the tensors' memory, so the caller must check types and strides.
        """
        if self._interpreted:
            self._interpret(images, tensors, numbers)
            return
        words = [tensor.data_ptr() for tensor in tensors]
        if numbers:
            words += map(word, numbers)
        if self._buffers:
            size, offsets = self._layouts.get(images) or self._layout(images)
            memory = self._bytes.new_empty(size)  # in use until the steps are in the stream
            start = memory.data_ptr()
            words += [start + offset for offset in offsets]
        self.start(images, words)

    def start(self, images: int, words: Sequence[int]) -> None:
        """Run the steps on a GPU; `words` are those of the arguments, then the addresses of the buffers."""
        index = self._device.index
        if torch._C._cuda_getDevice() != index:
            with torch.cuda.device(index):
                self.start(images, words)
            return
        set_context(index)
        stream = torch._C._cuda_getCurrentRawStream(index)
        capturing = self._forks and torch._C._cuda_isCurrentStreamCapturing()
        aside = side_stream(index, stream) if capturing else NO_SIDE_STREAM
        handle = torch._C._cuda_getCurrentBlasHandle() if self._multiplies else 0
        status = self._run(self._codes, *aside, handle, stream, images, *words, *self._unused)
        if status:
            raise_for(status)

    def _layout(self, images: int) -> tuple[int, list[int]]:
        size, offsets = 0, []
        for buffer in self._buffers:
            offsets.append(size)
            size += -(-prod(buffer.shape(images)) * buffer.dtype.itemsize // ALIGNMENT) * ALIGNMENT
        if len(self._layouts) >= LAYOUTS:
            self._layouts.clear()
        found = self._layouts[images] = size, offsets
        return found

    def _interpret(self, images: int, tensors: Sequence[Tensor], numbers: Sequence[int | float]) -> None:
        made = [tensors[0].new_empty(buffer.shape(images), dtype=buffer.dtype) for buffer in self._buffers]
        words = images, *tensors, *numbers, *made
        for step in self._steps:
            if isinstance(step, Launch):
                blocks = step.blocks * images if step.per_image else step.blocks
                given = [words[a.number] if isinstance(a, Place) else a for a in step.arguments]
                launch(step.kernel, blocks, *given)
            elif isinstance(step, Product):
                left, right, out = (words[place.number] for place in (step.left, step.right, step.out))
                assert isinstance(left, Tensor)
                assert isinstance(right, Tensor)
                assert isinstance(out, Tensor)
                torch.bmm(
                    left.mT if step.left_transposed else left,
                    right.mT if step.right_transposed else right,
                    out=out,
                )


def launch(kernel: Kernel, blocks: int, *arguments: Tensor | int | float) -> None:
    """Launch `blocks` CUDA blocks of a kernel on the current stream.

    The first argument must be a tensor, whose device is used. On the CPU, the kernel runs in Numba's
    simulator.
    """
    first = arguments[0]
    assert isinstance(first, Tensor)
    if first.is_cpu:
        kernel.simulate(blocks, arguments)
    else:
        _program(kernel, first.device, len(arguments)).start(blocks, [word(a) for a in arguments])


@lru_cache(maxsize=4096)
def _program(kernel: Kernel, device: torch.device, count: int) -> Program:
    """Return the program of one launch with `count` arguments, with one CUDA block per image."""
    return Program(device, [Launch(kernel, 1, [Place(n + 1) for n in range(count)], per_image=True)], count)


def word(argument: Tensor | int | float) -> int:
    """Return an argument as an int: a tensor's address, the float32 bits of a float, or the int itself."""
    if isinstance(argument, Tensor):
        return argument.data_ptr()
    if isinstance(argument, float):
        bits: int = struct.unpack("<i", struct.pack("<f", argument))[0]
        return bits
    return argument
