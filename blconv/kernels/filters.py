"""Packing (filters to the matrices that multiply the coefficients) and folding, its adjoint.

    w       (O, C, taps)              ordinary filters, in memory so, or channels last: (O, taps, C)
    mixes   (Q, taps, inputs, outputs)  a constant table: how the taps make each entry of a matrix
    V       (Q, inputs, C, outputs, O)  V[q, i, :, j, :] = sum over the taps k of mixes[q, k, i, j] w[:, :, k]
            (Q, outputs, O, inputs, C)  the same transposed

For the spectral form q is a frequency, inputs and outputs are its real and imaginary parts, and V is
the real form [[re, im], [-im, re]] of the filters' spectrum; for the dense form there is one q, and
inputs and outputs are pixels. Filters are few, so time is latency: everything that a thread reads is
asked for before the first of it is used.

Packing: a block owns 32 channels along the last axis of V, a lane each, 8 of the other ones, a warp
each, and a run of q: it reads its filters and mixes once and writes rows of 32. Folding: a block owns 32
outputs, a lane each, and some channels, each of which has several warps that share the q between them
and add up through shared memory: no atomics, so the same bits every time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numba import cuda, float32

from blconv.kernels.kernel import Kernel
from blconv.kernels.transforms import Memory
from blconv.kernels.warp import loader, shared_four, storer, tf32

LANES, WARPS = 32, 8
BLOCKS = 1024  # wanted of packing: enough to fill a GPU of 132 multiprocessors several times
MIXES = 1024  # numbers of the table that a block of packing holds, at most, unless one q has more
FOLDING_BLOCKS, FOLDING_WARPS = 256, 16  # wanted, and at most in a block
AHEAD = 24  # numbers that a lane of folding reads before it uses the first


@dataclass(frozen=True)
class Filters:
    """What the kernels are compiled for."""

    channels: int
    outputs: int
    taps: int
    matrices: int  # Q
    parts: tuple[int, int]  # inputs and outputs of `mixes`
    channels_last: bool  # of w in memory
    memory: Memory
    transposed: bool = False  # V, so that its rows are outputs
    rounds: bool = False  # V, to what the tensor cores read

    @property
    def block(self) -> tuple[int, int]:
        """Output and input channels of a block of packing."""
        return (WARPS, LANES) if self.transposed else (LANES, WARPS)

    @property
    def tiles(self) -> int:
        """Blocks of packing for one run of q."""
        return -(-self.outputs // self.block[0]) * -(-self.channels // self.block[1])

    @property
    def entries(self) -> int:
        """Numbers that a matrix has for a pair of channels."""
        return self.parts[0] * self.parts[1]

    @property
    def mixes(self) -> int:
        """Numbers of the table for one q."""
        return self.taps * self.entries

    @property
    def run(self) -> int:
        """q of a block of packing."""
        return min(-(-self.matrices * self.tiles // BLOCKS), max(1, MIXES // self.mixes))

    @property
    def packing_blocks(self) -> int:
        """Blocks of packing."""
        return self.tiles * -(-self.matrices // self.run)

    @property
    def packing_bytes(self) -> int:
        """Bytes of a block's mixes and filters."""
        return 4 * (self.run * self.mixes + self.block[0] * _row(self.block[1], self.taps))

    @property
    def across(self) -> int:
        """Input channels of a block of folding."""
        across = WARPS
        while across > 1 and -(-self.outputs // LANES) * -(-self.channels // across) < FOLDING_BLOCKS:
            across //= 2
        return across

    @property
    def shares(self) -> int:
        """Warps of folding that share the q of a channel."""
        most = FOLDING_WARPS if self.taps <= 9 else WARPS
        return max(1, min(most // self.across, 1 << (self.matrices // 2).bit_length() >> 1))

    @property
    def folding_blocks(self) -> int:
        """Blocks of folding."""
        return -(-self.outputs // LANES) * -(-self.channels // self.across)

    @property
    def folding_bytes(self) -> int:
        """Bytes of the sums of a block's warps."""
        return 4 * self.shares * self.across * self.taps * (LANES + 1)


def _row(channels: int, taps: int) -> int:
    """Numbers of a block's filters that belong to one output channel; odd: no two lanes share a bank."""
    return channels * taps | 1


@lru_cache(maxsize=256)
def pack(filters: Filters) -> Kernel:
    """The kernel (w, V, mixes), of `packing_blocks`."""
    pointer = "float32*" if filters.memory == "float32" else "uint16*"
    signature = (pointer, pointer, "float32*")
    return Kernel(_pack(filters), signature, LANES * WARPS, filters.packing_bytes, filters)


@lru_cache(maxsize=256)
def fold(filters: Filters) -> Kernel:
    """The kernel (V, w, mixes), of `folding_blocks`; its sums are float32's until the end."""
    pointer = "float32*" if filters.memory == "float32" else "uint16*"
    signature = (pointer, pointer, "float32*")
    threads = LANES * filters.across * filters.shares
    return Kernel(_fold(filters), signature, threads, filters.folding_bytes, filters)


def _placer(filters: Filters, width: int) -> Callable[..., Any]:
    """The function (output, c0, at) -> where number `at` of an output channel is: in w, and staged.

    A block has `width` input channels from c0 on; `at` runs as w lies in memory.
    """
    C, TAPS = filters.channels, filters.taps

    def taps_last(output, c0, at):
        return (output * C + c0) * TAPS + at, at

    def channels_last(output, c0, at):
        tap, c = at // width, at % width
        return (output * TAPS + tap) * C + c0 + c, c * TAPS + tap

    place: Callable[..., Any] = cuda.jit(
        channels_last if filters.channels_last else taps_last, device=True, inline=True
    )
    return place


def _adder(entries: int) -> Callable[..., Any]:
    """A matrix's entries from one tap: totals[e] += mixes[at + e] tap, of mixes in shared memory."""
    fours = entries // 4

    def add_fours(totals, staged, at, tap):
        for n in range(fours):
            a, b, c, d = shared_four(staged, at + 4 * n)
            totals[4 * n] += a * tap
            totals[4 * n + 1] += b * tap
            totals[4 * n + 2] += c * tap
            totals[4 * n + 3] += d * tap

    def add_singly(totals, staged, at, tap):
        for e in range(entries):
            totals[e] += staged[at + e] * tap

    add: Callable[..., Any] = cuda.jit(add_singly if entries % 4 else add_fours, device=True, inline=True)
    return add


def _gatherer(entries: int) -> Callable[..., Any]:
    """A tap from a matrix's entries: the sum of mixes[at + e] values[n entries + e], of mixes in memory."""
    fours = entries // 4
    load, load_four = loader("float32", 1), loader("float32", 4)

    def gather_fours(values, n, mixes, at):
        total = float32(0)
        for m in range(fours):
            a, b, c, d = load_four(mixes, at + 4 * m)
            e = n * entries + 4 * m
            total += a * values[e] + b * values[e + 1] + c * values[e + 2] + d * values[e + 3]
        return total

    def gather_singly(values, n, mixes, at):
        total = float32(0)
        for e in range(entries):
            total += load(mixes, at + e) * values[n * entries + e]
        return total

    gather: Callable[..., Any] = cuda.jit(
        gather_singly if entries % 4 else gather_fours, device=True, inline=True
    )
    return gather


def _pack(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    (INS, OUTS), (HIGH, WIDE) = filters.parts, filters.block
    TILES, RUN, TRANSPOSED = filters.tiles, filters.run, filters.transposed
    THREADS, ACROSS, NUMBERS = LANES * WARPS, -(-O // HIGH), WIDE * TAPS
    # Steps in V from one input, output, input part and output part to the next.
    STEP_C, STEP_O = (1, INS * C) if TRANSPOSED else (OUTS * O, 1)
    STEP_IN, STEP_OUT, MATRIX = C * STEP_C, O * STEP_O, INS * C * OUTS * O
    ENTRIES, MIXES_OF_Q, ROW = filters.entries, filters.mixes, _row(WIDE, TAPS)
    STAGED = RUN * MIXES_OF_Q
    PIECES = -(-STAGED // THREADS)
    W_LAST, MIXES_LAST = O * C * TAPS - 1, Q * MIXES_OF_Q - 1
    add, place = _adder(ENTRIES), _placer(filters, WIDE)
    load, load_mix, store = loader(filters.memory, 1), loader("float32", 1), storer(filters.memory, 1)

    def rounded(x):
        return tf32(x)

    def same(x):
        return x

    leave = cuda.jit(rounded if filters.rounds else same, device=True, inline=True)

    def pack(w, V, mixes):
        staged = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
        tile, first = cuda.blockIdx.x % TILES, RUN * (cuda.blockIdx.x // TILES)
        o0, c0 = HIGH * (tile % ACROSS), WIDE * (tile // ACROSS)
        taps = cuda.local.array(TAPS, float32)
        mix = cuda.local.array(PIECES, float32)
        for n in range(TAPS):  # beyond the last channel and the last q, other numbers that nobody uses
            at = cuda.threadIdx.x + THREADS * n
            source, _ = place(o0 + at // NUMBERS, c0, at % NUMBERS)
            taps[n] = load(w, min(source, W_LAST))
        for n in range(PIECES):
            at = first * MIXES_OF_Q + cuda.threadIdx.x + THREADS * n
            mix[n] = load_mix(mixes, min(at, MIXES_LAST))
        for n in range(TAPS):
            at = cuda.threadIdx.x + THREADS * n
            _, target = place(o0, c0, at % NUMBERS)
            staged[STAGED + at // NUMBERS * ROW + target] = taps[n]
        for n in range(PIECES):
            at = cuda.threadIdx.x + THREADS * n
            if at < STAGED:
                staged[at] = mix[n]
        cuda.syncthreads()
        o, c = lane, warp
        if TRANSPOSED:
            o, c = warp, lane
        for k in range(TAPS):
            taps[k] = staged[STAGED + o * ROW + c * TAPS + k]
        totals = cuda.local.array(ENTRIES, float32)
        o, c = o0 + o, c0 + c
        if o < O and c < C:
            for q in range(first, min(first + RUN, Q)):
                for e in range(ENTRIES):
                    totals[e] = 0
                for k in range(TAPS):
                    add(totals, staged, ((q - first) * TAPS + k) * ENTRIES, taps[k])
                for i in range(INS):
                    for j in range(OUTS):
                        at = q * MATRIX + i * STEP_IN + j * STEP_OUT + c * STEP_C + o * STEP_O
                        store(V, at, leave(totals[i * OUTS + j]))

    return pack


def _fold(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    INS, OUTS = filters.parts
    WIDE, SHARES = filters.across, filters.shares
    ACROSS, NUMBERS, THREADS = -(-O // LANES), WIDE * TAPS, LANES * WIDE * SHARES
    ENTRIES, MATRIX, ROW = filters.entries, INS * C * OUTS * O, LANES + 1
    # With many taps the compiler leaves loops as they are, and what they index in slow local memory.
    AT_ONCE = min(-(-Q // SHARES), max(1, AHEAD // ENTRIES)) if TAPS <= 9 else 1
    HELD, STEP = AT_ONCE * ENTRIES, AT_ONCE * SHARES
    gather, place = _gatherer(ENTRIES), _placer(filters, WIDE)
    load, store = loader(filters.memory, 1), storer(filters.memory, 1)

    def fold(V, w, mixes):
        sums = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
        c, share = warp % WIDE, warp // WIDE
        o0, c0 = LANES * (cuda.blockIdx.x % ACROSS), WIDE * (cuda.blockIdx.x // ACROSS)
        here = min(c0 + c, C - 1) * (OUTS * O) + min(o0 + lane, O - 1)
        taps = cuda.local.array(TAPS, float32)
        values = cuda.local.array(HELD, float32)
        for k in range(TAPS):
            taps[k] = 0
        for start in range(share, Q, STEP):
            for n in range(AT_ONCE):
                matrix = min(start + n * SHARES, Q - 1) * MATRIX + here
                for i in range(INS):
                    for j in range(OUTS):
                        values[(n * INS + i) * OUTS + j] = load(V, matrix + i * (C * OUTS * O) + j * O)
            for n in range(AT_ONCE):
                q = start + n * SHARES
                if q < Q:
                    for k in range(TAPS):
                        taps[k] += gather(values, n, mixes, (q * TAPS + k) * ENTRIES)
        for k in range(TAPS):
            sums[((share * WIDE + c) * TAPS + k) * ROW + lane] = taps[k]
        cuda.syncthreads()
        for at in range(cuda.threadIdx.x, LANES * NUMBERS, THREADS):
            row, place_of = at // NUMBERS, at % NUMBERS
            target, source = place(o0 + row, c0, place_of)
            if o0 + row < O and c0 + source // TAPS < C:
                total = float32(0)
                for n in range(SHARES):
                    total += sums[(n * NUMBERS + source) * ROW + row]
                store(w, target, total)

    return fold
