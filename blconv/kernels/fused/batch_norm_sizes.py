"""The sizes of BatchNorm's kernels, and the sum that their blocks share.

A thread reads a vector of 16 bytes at once. If pixels are last in memory, all numbers of a vector belong to
one channel; if channels are last, each belongs to another channel. ReLU's bits (see `relu`) are n bytes, and
byte j has the bits of elements j, j + n, .., j + 7 * n. So the bits of neighbouring elements are in
neighbouring bytes, and the bits of a vector are read as one word of as many bytes as the vector has numbers.

In these kernels, lanes are the threads of a block that share a group of vectors, not those of a warp, and a
tile is the set of groups that a block sums.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from numba import cuda
from torch import Tensor

from blconv.kernels.primitives.warp import device
from blconv.layout import is_channels_last

BLOCKS = 256, 4  # threads of a block, and vectors that a thread sums at least; tests use fewer
SUM_BLOCKS = 2048  # CUDA blocks of a sum, about at most: three times the number that runs at once
# Types of pointers to words of ReLU's bits, by the number of elements in a vector: one byte for each.
BIT_WORDS = {1: "uint8*", 4: "int32*", 8: "int64*"}


@dataclass(frozen=True)
class BatchNormSizes:
    """The types and sizes that the kernels are compiled for.

    The kernels see maps as vectors of `vector` numbers: (runs, groups, steps). A group is all vectors of the
    same channels. If pixels are last, a run is an image, and a group is one channel and has `steps` vectors
    in a run. If channels are last, a run is a pixel, and a group is `vector_channels` channels and has one
    vector in a run.
    """

    memory: str
    channels: int
    pixels: int  # successive numbers in memory that are of one channel
    vector: int
    has_bits: bool
    threads: int = BLOCKS[0]  # of a block
    vectors_per_thread: int = BLOCKS[1]  # that a thread sums at least, before a sum is split further

    @property
    def vector_channels(self) -> int:
        """Number of channels to which the numbers of a vector belong."""
        return self.vector if self.pixels == 1 else 1

    @property
    def groups(self) -> int:
        """Number of groups of vectors; a group is all vectors of the same channel or channels."""
        return self.channels // self.vector_channels

    @property
    def steps(self) -> int:
        """Number of successive vectors in memory that belong to the same channels."""
        return self.pixels * self.vector_channels // self.vector

    @property
    def tile(self) -> int:
        """Number of groups that a CUDA block sums.

        It is 1 if a group has several steps. Otherwise the groups are divided evenly among as few blocks as
        possible, with at most one group per thread.
        """
        return 1 if self.steps > 1 else -(-self.groups // -(-self.groups // self.threads))

    @property
    def tiles(self) -> int:
        """Number of CUDA blocks that cover all groups of vectors once."""
        return -(-self.groups // self.tile)

    @property
    def lanes(self) -> int:
        """Number of threads of a CUDA block that share a group of vectors."""
        return self.threads // self.tile

    def parts(self, length: int) -> int:
        """Return the number of blocks among which the `length` vectors of a group are divided for the sum."""
        return max(1, min(SUM_BLOCKS // self.tiles, -(-length // (self.vectors_per_thread * self.lanes))))


@dataclass(frozen=True, eq=False)  # a key of caches, made once for each shape
class BatchNormMaps:
    """The sizes of maps (batch, C, H, W), dense and of one layout, and of the launches of their kernels."""

    sizes: BatchNormSizes
    vectors: int
    length: int  # number of vectors of a group
    parts: int  # number of CUDA blocks that share a sum
    count: int  # number of words of bits

    @property
    def values(self) -> int:
        """Number of values of a channel, in all images."""
        return self.length * self.sizes.vector // self.sizes.vector_channels

    @property
    def writer_blocks(self) -> int:
        """Number of CUDA blocks of a kernel whose threads compute one vector each."""
        return -(-self.vectors // self.sizes.threads)

    @property
    def word_blocks(self) -> int:
        """Number of CUDA blocks of a kernel whose threads compute one word of bits each."""
        return -(-self.count // self.sizes.threads)

    @property
    def sum_blocks(self) -> int:
        """Number of CUDA blocks of the kernel that computes the sums of all channels."""
        return self.parts * self.sizes.tiles


def maps_of(y: Tensor, other: Tensor, has_bits: bool) -> BatchNormMaps:
    """Return the sizes of y (batch, C, H, W) and another map, both dense and of the same layout."""
    aligned = (y.data_ptr() | other.data_ptr()) % 16 == 0
    return _maps(y.shape, y.dtype, is_channels_last(y), aligned, has_bits, BLOCKS)


@lru_cache(maxsize=4096)
def _maps(
    shape: torch.Size, dtype: torch.dtype, last: bool, aligned: bool, has_bits: bool, blocks: tuple[int, int]
) -> BatchNormMaps:
    numbers, channels, vector = shape.numel(), shape[1], 16 // dtype.itemsize
    pixels = 1 if last else math.prod(shape[2:])
    # Neighbours are of one channel or of whole vectors of channels, and their bits have one position.
    if not aligned or (channels if last else pixels) % vector or numbers % (8 * vector):
        vector = 1
    memory = str(dtype).removeprefix("torch.")
    sizes = BatchNormSizes(memory, channels, pixels, vector, has_bits, *blocks)
    vectors = numbers // vector
    length = vectors // sizes.groups
    return BatchNormMaps(sizes, vectors, length, sizes.parts(length), -(-numbers // 8) // vector)


def sum_folder(rows: int, lanes: int, tile: int, threads: int) -> Any:
    """Return the device function (shared, thread, lane) that sums each of `rows` rows over the lanes.

    A row lies in shared memory and has one number for each thread. The indices of the threads of a sum (its
    lanes) differ by multiples of `tile`, and lane 0 gets the sum.
    """

    def fold(shared, thread, lane):
        active = lanes
        while active > 1:
            half = (active + 1) // 2
            cuda.syncthreads()
            if lane + half < active:
                for s in range(rows):
                    shared[s * threads + thread] += shared[s * threads + thread + half * tile]
            active = half

    return device(fold)


def words_pointer(sizes: BatchNormSizes) -> str:
    """Return the type of a pointer to words of ReLU's bits, for the signature of a `Kernel`."""
    return BIT_WORDS[sizes.vector]
