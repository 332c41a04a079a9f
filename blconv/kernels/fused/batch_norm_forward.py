"""BatchNorm of a training batch and the ReLU after it, in two passes over the map.

With y the input, s the first value of a channel, and n the number of values of a channel:

    mean = s + sum (y - s) / n
    variance = sum (y - s)^2 / n - (mean - s)^2
    out = max(gamma * (y - mean) / sqrt(variance + eps) + beta, 0), and a bit for each element set to zero

Since s is a value of the channel, the difference in the variance loses little precision. In the kernel of
`reducer`, each block sums a part of a channel. The kernel of `finisher` adds the parts in an order that
depends only on the shape, and updates the running statistics and the number of batches. The kernel of
`writer` computes the output and ReLU's bits (see `relu`). In float32, 8 bytes per element are read and 4 1/8
written; torch's BatchNorm and a ReLU after it read 12 and write 8. `blconv.kernels` and `batch_norm_sizes`
explain the terms.
"""

from functools import lru_cache
from math import sqrt
from typing import Any, NamedTuple

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
from blconv.kernels.runtime.kernel import Kernel
from blconv.kernels.runtime.program import Buffer, Launch, Place, Program


class Parameters(NamedTuple):
    """The tensors of a BatchNorm, float32 (C,); `batches` is int64 () and counts the batches."""

    gamma: Tensor | None
    beta: Tensor | None
    mean: Tensor | None
    variance: Tensor | None
    batches: Tensor | None


def normalise(
    y: Tensor, parameters: Parameters, factor: float, eps: float, *, relu: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the normalised output, the statistics (2, C) in float32, and ReLU's bits or None without `relu`.

    The statistics are the mean and 1 / sqrt(variance + eps) of each channel. y (batch, C, H, W) must be dense
    and of a dtype in `limits.KERNEL_DTYPES`, with at least two values per channel. The running statistics are
    updated: they move towards those of the batch by the share `factor` of the difference.
    """
    out = torch.empty_like(y)
    maps = maps_of(y, out, relu)
    state = y.new_empty(2, y.shape[1], dtype=torch.float32)
    bits = y.new_empty(-(-y.numel() // 8), dtype=torch.uint8) if relu else None
    given = tuple([tensor is not None for tensor in parameters])
    # In place of missing tensors any pointer will do: the kernels do not read it.
    several = [state if tensor is None else tensor for tensor in parameters]
    words = state if bits is None else bits
    numbers = float(factor), float(eps)
    _program(maps, given, y.device).run(0, y, out, words, state, *several, numbers=numbers)
    torch.autograd.graph.increment_version([tensor for tensor in parameters[2:] if tensor is not None])
    return out, state, bits


@lru_cache(maxsize=4096)
def _program(maps: BatchNormMaps, given: tuple[bool, ...], device: torch.device) -> Program:
    """Return the program of the three launches; `normalise` shows its arguments."""
    sizes, channels = maps.sizes, maps.sizes.channels
    y, out, words, state, gamma, beta, mean, variance, batches, factor, eps, partial = (
        Place(n) for n in range(1, 13)
    )
    statistics = mean, variance, batches, state, maps.parts, maps.values
    steps = [
        Launch(reducer(sizes), maps.sum_blocks, (y, partial, maps.length, maps.parts)),
        Launch(finisher(sizes, given), channels, (partial, y, *statistics, factor, eps)),
        Launch(
            writer(sizes, given[:2]), maps.word_blocks,
            (y, out, words, state, gamma, beta, maps.count, maps.vectors),
        ),
    ]  # fmt: skip
    return Program(device, steps, 11, [Buffer((maps.parts * 2, channels), torch.float32)])


@lru_cache
def reducer(sizes: BatchNormSizes) -> Kernel:
    """Return the kernel (y, partial, length, parts) that sums one part of a group of channels in each block.

    It writes the sums of y - s and (y - s)^2 (see the module) to partial (parts, 2, C). `length` is the
    number of vectors of a group, and `parts` the number of parts.
    """
    GROUPS, STEPS, VECTOR, WIDE = sizes.groups, sizes.steps, sizes.vector, sizes.vector_channels
    TILE, TILES, LANES, CHANNELS = sizes.tile, sizes.tiles, sizes.lanes, sizes.channels
    THREADS, BOTH = sizes.threads, 2 * WIDE
    SUMS = THREADS * BOTH
    read, fold = vector_reader(sizes.memory, VECTOR), sum_folder(BOTH, LANES, TILE, THREADS)

    def reduce(y: Any, partial: Any, length: int, parts: int) -> None:
        shared = cuda.shared.array(SUMS, float32)
        sums = cuda.local.array(BOTH, float32)
        shift = cuda.local.array(VECTOR, float32)
        values = cuda.local.array(VECTOR, float32)
        thread, part = cuda.threadIdx.x, cuda.blockIdx.x // TILES
        lane, group = thread // TILE, cuda.blockIdx.x % TILES * TILE + thread % TILE
        works = lane < LANES and group < GROUPS
        for s in range(BOTH):
            sums[s] = 0
        if works:
            read(shift, y, group * STEPS)
            m = int64(part) * LANES + lane
            while m < length:
                read(values, y, (m // STEPS * GROUPS + group) * STEPS + m % STEPS)
                for e in range(VECTOR):
                    d = values[e] - shift[e % WIDE]
                    sums[e % WIDE] += d
                    sums[WIDE + e % WIDE] += d * d
                m += parts * LANES
        for s in range(BOTH):
            shared[s * THREADS + thread] = sums[s]
        fold(shared, thread, lane)
        if works and lane == 0:
            for s in range(WIDE):
                partial[2 * part * CHANNELS + group * WIDE + s] = shared[s * THREADS + thread]
                partial[(2 * part + 1) * CHANNELS + group * WIDE + s] = shared[(WIDE + s) * THREADS + thread]

    return Kernel(reduce, (pointer(sizes.memory), "float32*", "int64", "int64"), THREADS, constants=sizes)


@lru_cache
def finisher(sizes: BatchNormSizes, given: tuple[bool, ...]) -> Kernel:
    """Return the kernel that adds the parts and writes the statistics; it has one block per channel.

    Its arguments are (partial, y, mean, variance, batches, state, parts, n, factor, eps), where partial is
    the result of the kernel of `reducer`, and n is the number of values of a channel. `given` states which of
    the `Parameters` exist.
    """
    CHANNELS, PIXELS, THREADS = sizes.channels, sizes.pixels, sizes.threads
    SUMS, (_, _, HAS_MEAN, HAS_VARIANCE, HAS_BATCHES) = 2 * THREADS, given
    fold, read = sum_folder(2, THREADS, 1, THREADS), vector_reader(sizes.memory, 1)

    def finish(
        partial: Any, y: Any, mean: Any, variance: Any, batches: Any, state: Any, parts: int, n: int,
        factor: float, eps: float,
    ) -> None:  # fmt: skip
        shared = cuda.shared.array(SUMS, float32)
        first = cuda.local.array(1, float32)
        thread, channel = cuda.threadIdx.x, cuda.blockIdx.x
        total, square = float32(0), float32(0)
        part = int64(thread)
        while part < parts:
            total += partial[2 * part * CHANNELS + channel]
            square += partial[(2 * part + 1) * CHANNELS + channel]
            part += THREADS
        shared[thread] = total
        shared[THREADS + thread] = square
        fold(shared, thread, thread)
        if thread == 0:
            read(first, y, channel * PIXELS)
            numbers = float32(n)
            offset = shared[0] / numbers
            spread = max(shared[THREADS] / numbers - offset * offset, float32(0))
            centre = first[0] + offset
            state[channel] = centre
            state[CHANNELS + channel] = float32(1) / sqrt(spread + eps)
            if HAS_MEAN:
                mean[channel] += factor * (centre - mean[channel])
            if HAS_VARIANCE:
                unbiased = spread * (numbers / (numbers - float32(1)))
                variance[channel] += factor * (unbiased - variance[channel])
            if HAS_BATCHES and channel == 0:
                batches[0] += 1

    memory = pointer(sizes.memory)
    signature = ("float32*", memory, "float32*", "float32*", "int64*", "float32*", "int64", "int64")
    return Kernel(finish, (*signature, "float32", "float32"), THREADS, constants=(sizes, given))


@lru_cache
def writer(sizes: BatchNormSizes, given: tuple[bool, ...]) -> Kernel:
    """Return the kernel that writes the output of BatchNorm.

    If `sizes.has_bits`, it writes the output of BatchNorm and ReLU, and ReLU's bits. The arguments are
    (y, out, words, state, gamma, beta, count, vectors): `vectors` is the number of vectors in y, and `count`
    is the number of words that hold the bits. A thread computes the 8 vectors of one word. `given` states
    whether gamma and beta exist.
    """
    GROUPS, STEPS, VECTOR, WIDE = sizes.groups, sizes.steps, sizes.vector, sizes.vector_channels
    CHANNELS, THREADS, RELU, (HAS_GAMMA, HAS_BETA) = sizes.channels, sizes.threads, sizes.has_bits, given
    ALL, SIGN = 8 * VECTOR, 1 << 31 if VECTOR == 4 else 0
    read, write = vector_reader(sizes.memory, VECTOR), vector_writer(sizes.memory, VECTOR)
    read_channels = float32_reader(WIDE)

    def normalise(
        y: Any, out: Any, words: Any, state: Any, gamma: Any, beta: Any, count: int, vectors: int
    ) -> None:
        values = cuda.local.array(ALL, float32)
        centre = cuda.local.array(WIDE, float32)
        scale = cuda.local.array(WIDE, float32)
        factor = cuda.local.array(WIDE, float32)
        shift = cuda.local.array(WIDE, float32)
        j = int64(cuda.blockIdx.x) * THREADS + cuda.threadIdx.x
        if j < count:
            for i in range(8):  # all reads before the first write: they overlap
                read(values, y, min(j + i * count, vectors - 1), VECTOR * i)
            word = int64(0)
            for i in range(8):
                at = j + i * count
                channel = min(at, vectors - 1) // STEPS % GROUPS * WIDE
                read_channels(centre, state, channel)
                read_channels(scale, state, CHANNELS + channel)
                if HAS_GAMMA:
                    read_channels(factor, gamma, channel)
                if HAS_BETA:
                    read_channels(shift, beta, channel)
                for e in range(VECTOR):
                    c = e % WIDE
                    a = scale[c] * factor[c] if HAS_GAMMA else scale[c]
                    value = a * (values[VECTOR * i + e] - centre[c])
                    if HAS_BETA:
                        value += shift[c]
                    if RELU:
                        is_zero = value <= 0  # a NaN passes, as through torch's
                        value = float32(0) if is_zero else value
                        if at < vectors:
                            word |= int64(is_zero) << (8 * e + i)
                    values[VECTOR * i + e] = value
                if at < vectors:
                    write(out, at, values, VECTOR * i)
            if RELU:
                words[j] = (word ^ SIGN) - SIGN  # the same bits, as a signed number

    memory = pointer(sizes.memory)
    signature = (memory, memory, words_pointer(sizes), *["float32*"] * 3, "int64", "int64")
    return Kernel(normalise, signature, THREADS, constants=(sizes, given))
