"""The gradient of BatchNorm and of the ReLU after it, written over BatchNorm's input.

y is the input, and g the gradient of the output, but 0 where ReLU's bit is set. For a channel with n values:

    sum_dy = sum g         sum_dy_xmu = sum g (y - mean)
    to_beta = sum_dy       to_gamma = invstd sum_dy_xmu
    a = gamma invstd       b = -a invstd^2 sum_dy_xmu / n       k = -a sum_dy / n
    dx = a g + b (y - mean) + k

The kernel of `reducer` sums a part of a channel in each CUDA block, and that of `finisher` adds the parts.
The order of both sums depends only on the shape. The kernel of `writer` replaces y by dx. In float32, 8 bytes
per element are read for the sums, and 8 read and 4 written for dx. No memory is needed for a third map beside
y and g.

A thread reads a vector of 16 bytes at once. If pixels are last, its `vector` numbers are of one channel; if
channels are last, each is of another channel. Byte j of the n bytes of bits has elements j, j + n, .., j + 7
n (see `relu`), so the bits of neighbours are in neighbouring bytes. Each byte is read eight times. The bytes
together are a 32nd of a float32 map and stay in the L2 cache.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from numba import cuda, float32, int64
from torch import Tensor

from blconv.kernels.primitives.vectors import float32_reader, pointer, vector_reader, vector_writer
from blconv.kernels.primitives.warp import device
from blconv.kernels.runtime.kernel import Kernel
from blconv.layout import is_channels_last

THREADS = 256
SUM_BLOCKS = 2048  # of a sum, about at most: three times the number that runs at once
VECTORS_PER_THREAD = 4  # at least, before a sum is split further
BIT_WORDS = {1: torch.uint8, 4: torch.int32, 8: torch.int64}  # of a vector's bits, one byte per element


@dataclass(frozen=True)
class BatchNormSizes:
    """The types and sizes that the kernels are compiled for.

    The kernels see a map as vectors of numbers: (runs, groups, steps). A group is the vectors of the same
    channels. If pixels are last, a run is an image, a group is one channel and has `steps` vectors in a run.
    If channels are last, a run is a pixel, a group is `vector_channels` channels and has one vector in a run.
    """

    memory: str
    channels: int
    pixels: int  # neighbours in memory of one channel
    vector: int
    has_bits: bool

    @staticmethod
    def of(y: Tensor, grad: Tensor, bits: Tensor | None) -> "BatchNormSizes":
        """Return the sizes for y (batch, C, H, W) and grad, both dense and of the same memory format."""
        last, vector = is_channels_last(y), 16 // y.element_size()
        channels, pixels = y.shape[1], 1 if last else math.prod(y.shape[2:])
        aligned = y.data_ptr() % 16 == 0 and grad.data_ptr() % 16 == 0
        # Neighbours are of one channel or of whole vectors of channels, and their bits have one position.
        if not aligned or (channels if last else pixels) % vector or y.numel() % (8 * vector):
            vector = 1
        return BatchNormSizes(str(y.dtype).removeprefix("torch."), channels, pixels, vector, bits is not None)

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
        """Number of groups that a CUDA block sums: 1, or an even share of the groups if each has one step."""
        return 1 if self.steps > 1 else -(-self.groups // -(-self.groups // THREADS))

    @property
    def tiles(self) -> int:
        """Number of CUDA blocks that cover all groups of vectors once."""
        return -(-self.groups // self.tile)

    @property
    def lanes(self) -> int:
        """Number of threads of a CUDA block that share a group of vectors."""
        return THREADS // self.tile

    def parts(self, length: int) -> int:
        """Return the number of blocks among which the `length` vectors of a group are divided for the sum."""
        return max(1, min(SUM_BLOCKS // self.tiles, -(-length // (VECTORS_PER_THREAD * self.lanes))))


def differentiate(
    grad: Tensor, y: Tensor, bits: Tensor | None, gamma: Tensor | None, mean: Tensor, invstd: Tensor
) -> tuple[Tensor, Tensor]:
    """Overwrite y, the BatchNorm's input, by its gradient; return those of gamma and beta, float32 (C,).

    y and `grad`, the gradient of the output, are (batch, C, H, W). They must not be empty, and must be dense,
    of the same memory format, and of a dtype in `limits.KERNEL_DTYPES`. `bits` are those of `relu_forward`,
    or None if no ReLU follows. mean and invstd (C,) are the statistics of the batch.
    """
    sizes = BatchNormSizes.of(y, grad, bits)
    vectors = y.numel() // sizes.vector
    length = vectors // sizes.groups
    parts = sizes.parts(length)
    count = -(-y.numel() // 8) // sizes.vector
    # Without bits the kernels do not read this pointer.
    words = grad if bits is None else bits.view(BIT_WORDS[sizes.vector])
    mean, invstd = mean.float(), invstd.float()
    scale = invstd if gamma is None else invstd * gamma
    partial = torch.empty(parts, 2, sizes.channels, device=y.device)
    factors = torch.empty(4, sizes.channels, device=y.device)
    to_gamma, to_beta = torch.empty_like(mean), torch.empty_like(mean)
    blocks = parts * sizes.tiles
    reducer(sizes).launch(blocks, grad, y, words, mean, partial, count, length, parts)
    finisher(sizes.channels).launch(
        sizes.channels, partial, mean, invstd, scale, factors, to_gamma, to_beta, parts,
        sizes.channels / y.numel(),
    )  # fmt: skip
    writer(sizes).launch(-(-vectors // THREADS), grad, y, words, factors, count, vectors)
    torch.autograd.graph.increment_version(y)
    return to_gamma, to_beta


@lru_cache
def reducer(sizes: BatchNormSizes) -> Kernel:
    """Return the kernel that computes sum_dy and sum_dy_xmu of one part of a group in each block.

    Its arguments are (grad, y, words, mean, partial, count, length, parts). It writes the sums to partial
    (parts, 2, C). `words` has `count` words with the bits of 8 `count` vectors; a group has `length` vectors.
    """
    GROUPS, STEPS, VECTOR, WIDE = sizes.groups, sizes.steps, sizes.vector, sizes.vector_channels
    TILE, TILES, LANES, CHANNELS = sizes.tile, sizes.tiles, sizes.lanes, sizes.channels
    BOTH = 2 * WIDE
    SUMS = THREADS * BOTH
    read, read_masked = vector_reader(sizes.memory, VECTOR), _masked_reader(sizes)
    read_channels, fold = float32_reader(WIDE), _sum_folder(BOTH, LANES, TILE)

    def reduce(
        grad: Any, y: Any, words: Any, mean: Any, partial: Any, count: int, length: int, parts: int
    ) -> None:
        shared = cuda.shared.array(SUMS, float32)
        sums = cuda.local.array(BOTH, float32)
        g = cuda.local.array(VECTOR, float32)
        values = cuda.local.array(VECTOR, float32)
        centre = cuda.local.array(WIDE, float32)
        thread, part = cuda.threadIdx.x, cuda.blockIdx.x // TILES
        lane, group = thread // TILE, cuda.blockIdx.x % TILES * TILE + thread % TILE
        works = lane < LANES and group < GROUPS
        for s in range(BOTH):
            sums[s] = 0
        if works:
            read_channels(centre, mean, group * WIDE)
            m = int64(part) * LANES + lane
            while m < length:
                at = (m // STEPS * GROUPS + group) * STEPS + m % STEPS
                read_masked(g, grad, words, at, count)
                read(values, y, at)
                for e in range(VECTOR):
                    sums[e % WIDE] += g[e]
                    sums[WIDE + e % WIDE] += g[e] * (values[e] - centre[e % WIDE])
                m += parts * LANES
        for s in range(BOTH):
            shared[s * THREADS + thread] = sums[s]
        fold(shared, thread, lane)
        if works and lane == 0:
            for s in range(WIDE):
                partial[2 * part * CHANNELS + group * WIDE + s] = shared[s * THREADS + thread]
                partial[(2 * part + 1) * CHANNELS + group * WIDE + s] = shared[(WIDE + s) * THREADS + thread]

    numbers = pointer(sizes.memory)
    signature = (numbers, numbers, _words(sizes), "float32*", "float32*", "int64", "int64", "int64")
    return Kernel(reduce, signature, THREADS, constants=(sizes, THREADS))


@lru_cache
def finisher(channels: int) -> Kernel:
    """Return the kernel that adds the parts and writes the factors (mean, a, b, k) and both gradients.

    It has one block per channel. Its last argument is 1 / n, where n is the number of values of a channel.
    """
    SUMS = 2 * THREADS
    fold = _sum_folder(2, THREADS, 1)

    def finish(
        partial: Any, mean: Any, invstd: Any, scale: Any, factors: Any, to_gamma: Any, to_beta: Any,
        parts: int, share: float,
    ) -> None:  # fmt: skip
        shared = cuda.shared.array(SUMS, float32)
        thread, channel = cuda.threadIdx.x, cuda.blockIdx.x
        total, product = float32(0), float32(0)
        part = int64(thread)
        while part < parts:
            total += partial[2 * part * channels + channel]
            product += partial[(2 * part + 1) * channels + channel]
            part += THREADS
        shared[thread] = total
        shared[THREADS + thread] = product
        fold(shared, thread, thread)
        if thread == 0:
            deviation, a = invstd[channel], scale[channel]
            normal = deviation * shared[THREADS]
            factors[channel] = mean[channel]
            factors[channels + channel] = a
            factors[2 * channels + channel] = -a * deviation * normal * share
            factors[3 * channels + channel] = -a * shared[0] * share
            to_gamma[channel] = normal
            to_beta[channel] = shared[0]

    signature = ("float32*",) * 7 + ("int64", "float32")
    return Kernel(finish, signature, THREADS, constants=(channels, THREADS))


@lru_cache
def writer(sizes: BatchNormSizes) -> Kernel:
    """Return the kernel (grad, y, words, factors, count, vectors) that replaces y by its gradient dx.

    `factors` are those of `finisher`, and y has `vectors` vectors.
    """
    GROUPS, STEPS, VECTOR, WIDE = sizes.groups, sizes.steps, sizes.vector, sizes.vector_channels
    CHANNELS = sizes.channels
    read, write = vector_reader(sizes.memory, VECTOR, written=True), vector_writer(sizes.memory, VECTOR)
    read_masked, read_channels = _masked_reader(sizes), float32_reader(WIDE)

    def differentiate(grad: Any, y: Any, words: Any, factors: Any, count: int, vectors: int) -> None:
        g = cuda.local.array(VECTOR, float32)
        values = cuda.local.array(VECTOR, float32)
        centre = cuda.local.array(WIDE, float32)
        a = cuda.local.array(WIDE, float32)
        b = cuda.local.array(WIDE, float32)
        k = cuda.local.array(WIDE, float32)
        at = int64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if at < vectors:
            channel = at // STEPS % GROUPS * WIDE
            read_masked(g, grad, words, at, count)
            read(values, y, at)
            read_channels(centre, factors, channel)
            read_channels(a, factors, CHANNELS + channel)
            read_channels(b, factors, 2 * CHANNELS + channel)
            read_channels(k, factors, 3 * CHANNELS + channel)
            for e in range(VECTOR):
                c = e % WIDE
                values[e] = a[c] * g[e] + (b[c] * (values[e] - centre[c]) + k[c])
            write(y, at, values)

    numbers = pointer(sizes.memory)
    signature = (numbers, numbers, _words(sizes), "float32*", "int64", "int64")
    return Kernel(differentiate, signature, THREADS, constants=(sizes, THREADS))


def _masked_reader(sizes: BatchNormSizes) -> Any:
    """Return the device function that reads vector `at` of grad into g, with 0 where its bit is set."""
    VECTOR, HELD = sizes.vector, sizes.has_bits
    read = vector_reader(sizes.memory, VECTOR)

    def read_masked(g, grad, words, at, count):
        read(g, grad, at)
        if HELD:
            place = 0  # at // count, which is less than 8
            for i in range(1, 8):
                place += at >= i * count
            word = int64(words[at - place * count])
            for e in range(VECTOR):
                g[e] = float32(0) if (word >> (8 * e + place)) & 1 else g[e]

    return device(read_masked)


def _sum_folder(rows: int, lanes: int, tile: int) -> Any:
    """Return the device function (shared, thread, lane) that sums each of `rows` rows over the lanes.

    A row lies in shared memory and has one number for each thread. The lanes of a sum are threads that lie
    `tile` apart, and lane 0 gets the sum.
    """

    def fold(shared, thread, lane):
        active = lanes
        while active > 1:
            half = (active + 1) // 2
            cuda.syncthreads()
            if lane + half < active:
                for s in range(rows):
                    shared[s * THREADS + thread] += shared[s * THREADS + thread + half * tile]
            active = half

    return device(fold)


def _words(sizes: BatchNormSizes) -> str:
    return str(BIT_WORDS[sizes.vector]).removeprefix("torch.") + "*"
