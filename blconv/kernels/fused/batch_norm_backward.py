"""The gradient of BatchNorm and of the ReLU after it, written over BatchNorm's input.

y is the input of BatchNorm. In the forward pass, ReLU stores one bit per element; 1 means that the element
was set to zero. g is the gradient of the output, but 0 for the elements whose bit is 1. dx is the gradient of
y, and to_gamma and to_beta are those of gamma and beta. For a channel with n values and invstd = 1 /
sqrt(variance + eps):

    sum_dy = sum of g         sum_dy_xmu = sum of g * (y - mean)
    to_beta = sum_dy          to_gamma = invstd * sum_dy_xmu
    a = gamma * invstd        b = -a * invstd^2 * sum_dy_xmu / n        k = -a * sum_dy / n
    dx = a * g + b * (y - mean) + k

In the kernel of `reducer`, each CUDA block sums a part of a channel; the kernel of `finisher` adds the parts.
The order of both sums depends only on the shape. The kernel of `writer` replaces y by dx. In float32, 8 bytes
per element are read for the sums, and 8 read and 4 written for dx. No memory is needed for a third map beside
y and g.

A thread reads a vector of 16 bytes at once, which has `vector` numbers. If pixels are last, all of them
belong to one channel; if channels are last, each belongs to another channel. ReLU's bits (see `relu`) are m
bytes, and byte j has the bits of elements j, j + m, .., j + 7 * m. So the bits of neighbouring elements are
in neighbouring bytes. Each byte is read eight times, once for each of its bits. All bytes together have 1/32
of the size of a float32 map and stay in the L2 cache. `blconv.kernels` and `batch_norm_sizes` explain the
terms.
"""

from functools import lru_cache
from typing import Any

import torch
from numba import cuda, float32, int64
from torch import Tensor

from blconv.kernels.fused.batch_norm_sizes import (
    BatchNormMaps,
    BatchNormSizes,
    maps_of,
    sum_folder,
    words_pointer,
)
from blconv.kernels.primitives.vectors import float32_reader, pointer, vector_reader, vector_writer
from blconv.kernels.primitives.warp import device
from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.runtime.program import Buffer, Launch, Place, Program


def differentiate(
    grad: Tensor, y: Tensor, bits: Tensor | None, gamma: Tensor | None, statistics: Tensor
) -> tuple[Tensor, Tensor]:
    """Overwrite y, the BatchNorm's input, by its gradient; return the gradients of gamma and beta.

    The returned gradients are float32 (C,).

    y and `grad`, the gradient of the output, are (batch, C, H, W). They must not be empty, and must be dense,
    of the same memory format, and of a dtype in `limits.KERNEL_DTYPES`. `bits` are those of `relu_forward`,
    or None if no ReLU follows. `statistics`, float32 (2, C), are the mean and 1 / sqrt(variance + eps) of
    each channel of the batch.
    """
    maps = maps_of(y, grad, bits is not None)
    # In place of missing bits or gamma any pointer will do: the kernels do not read it.
    words = grad if bits is None else bits
    scale = statistics if gamma is None else gamma.float()
    to_gamma, to_beta = (statistics.new_empty(statistics.shape[1]) for _ in range(2))
    program = _program(maps, gamma is not None, y.device)
    program.run(0, grad, y, words, statistics.contiguous(), scale, to_gamma, to_beta)
    torch.autograd.graph.increment_version(y)
    return to_gamma, to_beta


@lru_cache(maxsize=4096)
def _program(maps: BatchNormMaps, has_gamma: bool, device: torch.device) -> Program:
    """Return the program of the three launches; `differentiate` shows its arguments."""
    sizes, channels = maps.sizes, maps.sizes.channels
    grad, y, words, statistics, gamma, to_gamma, to_beta, partial, factors = (Place(n) for n in range(1, 10))
    steps = [
        Launch(
            reducer(sizes), maps.sum_blocks,
            (grad, y, words, statistics, partial, maps.count, maps.length, maps.parts),
        ),
        Launch(
            finisher(channels, sizes.threads, has_gamma), channels,
            (partial, statistics, gamma, factors, to_gamma, to_beta, maps.parts, 1 / maps.values),
        ),
        Launch(
            writer(sizes), maps.writer_blocks, (grad, y, words, factors, maps.count, maps.vectors)
        ),
    ]  # fmt: skip
    buffers = [Buffer((rows, channels), torch.float32) for rows in (maps.parts * 2, 4)]
    return Program(device, steps, 7, buffers)


@lru_cache
def reducer(sizes: BatchNormSizes) -> Kernel:
    """Return the kernel that computes sum_dy and sum_dy_xmu of one part of a group in each block.

    Its arguments are (grad, y, words, mean, partial, count, length, parts). It writes the sums to partial
    (parts, 2, C). `words` has ReLU's bits: `count` words, each with the bits of 8 vectors. `length` is the
    number of vectors of a group.
    """
    GROUPS, STEPS, VECTOR, WIDE = sizes.groups, sizes.steps, sizes.vector, sizes.vector_channels
    TILE, TILES, LANES, CHANNELS = sizes.tile, sizes.tiles, sizes.lanes, sizes.channels
    THREADS = sizes.threads
    BOTH = 2 * WIDE
    SUMS = THREADS * BOTH
    read, read_masked = vector_reader(sizes.memory, VECTOR), _masked_reader(sizes)
    read_channels, fold = float32_reader(WIDE), sum_folder(BOTH, LANES, TILE, THREADS)

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
    signature = (numbers, numbers, words_pointer(sizes), "float32*", "float32*", "int64", "int64", "int64")
    return Kernel(reduce, signature, THREADS, constants=sizes)


@lru_cache
def finisher(channels: int, threads: int, has_gamma: bool) -> Kernel:
    """Return the kernel that adds the parts and writes (mean, a, b, k) and the gradients of gamma and beta.

    The module defines a, b and k. The kernel has one block per channel. Its last argument is 1 / n, where n
    is the number of values of a channel.
    """
    THREADS, SUMS = threads, 2 * threads
    fold = sum_folder(2, THREADS, 1, THREADS)

    def finish(
        partial: Any, statistics: Any, gamma: Any, factors: Any, to_gamma: Any, to_beta: Any,
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
            deviation = statistics[channels + channel]
            a = deviation * gamma[channel] if has_gamma else deviation
            normal = deviation * shared[THREADS]
            factors[channel] = statistics[channel]
            factors[channels + channel] = a
            factors[2 * channels + channel] = -a * deviation * normal * share
            factors[3 * channels + channel] = -a * shared[0] * share
            to_gamma[channel] = normal
            to_beta[channel] = shared[0]

    signature = ("float32*",) * 6 + ("int64", "float32")
    return Kernel(finish, signature, THREADS, constants=(channels, threads, has_gamma))


@lru_cache
def writer(sizes: BatchNormSizes) -> Kernel:
    """Return the kernel (grad, y, words, factors, count, vectors) that replaces y by its gradient dx.

    `factors` are those of `finisher`, `words` has ReLU's bits, `count` is the number of words, and `vectors`
    is the number of vectors in y.
    """
    GROUPS, STEPS, VECTOR, WIDE = sizes.groups, sizes.steps, sizes.vector, sizes.vector_channels
    CHANNELS, THREADS = sizes.channels, sizes.threads
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
    signature = (numbers, numbers, words_pointer(sizes), "float32*", "int64", "int64")
    return Kernel(differentiate, signature, THREADS, constants=sizes)


def _masked_reader(sizes: BatchNormSizes) -> Any:
    """Return the device function (g, grad, words, at, count) that reads a vector of grad into g.

    `at` is the index of the vector. An element of g is 0 if ReLU's bit of this element, in `words`, is 1.
    """
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
