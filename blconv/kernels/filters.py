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

from numba import cuda, float32, uint32

from blconv.kernels.kernel import Kernel
from blconv.kernels.transforms import Memory
from blconv.kernels.warp import device, loader, shared_four, storer, tf32

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
    complex: bool  # every matrix is [[re, im], [-im, re]]
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
    def row(self) -> int:
        """Numbers of a block's filters between output channels; 1 modulo 32 for reads without conflict."""
        dense = self.block[1] * self.taps
        return dense + (1 - dense) % LANES

    @property
    def packing_bytes(self) -> int:
        """Bytes of a block's mixes and filters; transposed, every lane reads the filters that it needs."""
        return 4 * (self.run * self.mixes + (0 if self.transposed else self.block[0] * self.row))

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


def _steps(filters: Filters) -> tuple[int, int, int]:
    """Numbers of w in memory from one output channel, input channel and tap to the next."""
    C, TAPS = filters.channels, filters.taps
    return (TAPS * C, 1, C) if filters.channels_last else (C * TAPS, TAPS, 1)


def _adder(entries: int, of_complex: bool) -> Callable[..., Any]:
    """A matrix's entries from one tap: totals[e] += mixes[at + e] tap, of mixes in shared memory."""
    fours = entries // 4

    def add_complex(totals, staged, at, tap):
        re, im, _, _ = shared_four(staged, at)
        totals[0] += re * tap
        totals[1] += im * tap

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

    return device(add_complex if of_complex else add_singly if entries % 4 else add_fours)


def _gatherer(entries: int, of_complex: bool) -> Callable[..., Any]:
    """A tap from a matrix's entries: the sum of mixes[at + e] values[n + e], of mixes in memory."""
    fours = entries // 4
    load, load_four = loader("float32", 1), loader("float32", 4)

    def gather_complex(values, n, mixes, at):
        re, im, _, _ = load_four(mixes, at)
        return re * (values[n] + values[n + 3]) + im * (values[n + 1] - values[n + 2])

    def gather_fours(values, n, mixes, at):
        total = float32(0)
        for m in range(fours):
            a, b, c, d = load_four(mixes, at + 4 * m)
            e = n + 4 * m
            total += a * values[e] + b * values[e + 1] + c * values[e + 2] + d * values[e + 3]
        return total

    def gather_singly(values, n, mixes, at):
        total = float32(0)
        for e in range(entries):
            total += load(mixes, at + e) * values[n + e]
        return total

    return device(gather_complex if of_complex else gather_singly if entries % 4 else gather_fours)


def _pack(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    (INS, OUTS), (HIGH, WIDE) = filters.parts, filters.block
    TILES, RUN, ROW, TRANSPOSED = filters.tiles, filters.run, filters.row, filters.transposed
    THREADS, ACROSS, SHIFT = LANES * WARPS, -(-O // HIGH), WIDE.bit_length() - 1
    W_O, W_C, W_TAP = _steps(filters)
    # Steps in V from one input, output, input part and output part to the next.
    STEP_C, STEP_O = (1, INS * C) if TRANSPOSED else (OUTS * O, 1)
    STEP_IN, STEP_OUT, MATRIX = C * STEP_C, O * STEP_O, INS * C * OUTS * O
    ENTRIES, MIXES_OF_Q, COMPLEX = filters.entries, filters.mixes, filters.complex
    STAGED, MIXES_LAST = RUN * MIXES_OF_Q, Q * MIXES_OF_Q - 1
    PIECES, SUMS = -(-STAGED // THREADS), 2 if COMPLEX else ENTRIES
    add = _adder(ENTRIES, COMPLEX)
    load, load_mix, store = loader(filters.memory, 1), loader("float32", 1), storer(filters.memory, 1)

    def rounded(x):
        return tf32(x)

    def same(x):
        return x

    leave = device(rounded if filters.rounds else same)

    def store_complex(V, at, totals):
        re, im = leave(totals[0]), leave(totals[1])
        store(V, at, re)
        store(V, at + STEP_OUT, im)
        store(V, at + STEP_IN, -im)
        store(V, at + STEP_IN + STEP_OUT, re)

    def store_entries(V, at, totals):
        for i in range(INS):
            for j in range(OUTS):
                store(V, at + i * STEP_IN + j * STEP_OUT, leave(totals[i * OUTS + j]))

    store_matrix = device(store_complex if COMPLEX else store_entries)

    def pack(w, V, mixes):
        staged = cuda.shared.array(0, float32)
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        tile, first = block % TILES, RUN * (block // TILES)
        o0, c0 = HIGH * (tile % ACROSS), WIDE * (tile // ACROSS)
        taps = cuda.local.array(TAPS, float32)
        mix = cuda.local.array(PIECES, float32)
        row, column = thread >> SHIFT, thread & (WIDE - 1)
        at = min(o0 + row, O - 1) * W_O + min(c0 + column, C - 1) * W_C
        for k in range(TAPS):
            taps[k] = load(w, at + k * W_TAP)
        for n in range(PIECES):
            mix[n] = load_mix(mixes, min(first * MIXES_OF_Q + thread + THREADS * n, MIXES_LAST))
        for n in range(PIECES):
            if thread + THREADS * n < STAGED:
                staged[thread + THREADS * n] = mix[n]
        if not TRANSPOSED:
            for k in range(TAPS):
                staged[STAGED + row * ROW + column * TAPS + k] = taps[k]
        cuda.syncthreads()
        if not TRANSPOSED:
            row, column = thread & (LANES - 1), thread // LANES
            for k in range(TAPS):
                taps[k] = staged[STAGED + row * ROW + column * TAPS + k]
        totals = cuda.local.array(SUMS, float32)
        o, c = o0 + row, c0 + column
        if o < O and c < C:
            for n in range(min(RUN, Q - first)):
                for e in range(SUMS):
                    totals[e] = 0
                for k in range(TAPS):
                    add(totals, staged, (n * TAPS + k) * ENTRIES, taps[k])
                store_matrix(V, (first + n) * MATRIX + c * STEP_C + o * STEP_O, totals)

    return pack


def _fold(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    INS, OUTS = filters.parts
    WIDE, SHARES = filters.across, filters.shares
    ACROSS, SHIFT = -(-O // LANES), WIDE.bit_length() - 1
    W_O, W_C, W_TAP = _steps(filters)
    ENTRIES, MATRIX, ROW = filters.entries, INS * C * OUTS * O, LANES + 1
    SHARE = WIDE * TAPS * ROW
    # With many taps the compiler leaves loops as they are, and what they index in slow local memory.
    AT_ONCE = min(-(-Q // SHARES), max(1, AHEAD // ENTRIES)) if TAPS <= 9 else 1
    HELD, STEP = AT_ONCE * ENTRIES, AT_ONCE * SHARES
    gather = _gatherer(ENTRIES, filters.complex)
    load, store = loader(filters.memory, 1), storer(filters.memory, 1)

    def fold(V, w, mixes):
        sums = cuda.shared.array(0, float32)
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        lane, c, share = thread & (LANES - 1), (thread // LANES) & (WIDE - 1), (thread // LANES) >> SHIFT
        o0, c0 = LANES * (block % ACROSS), WIDE * (block // ACROSS)
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
                        taps[k] += gather(values, n * ENTRIES, mixes, (q * TAPS + k) * ENTRIES)
        for k in range(TAPS):
            sums[share * SHARE + (c * TAPS + k) * ROW + lane] = taps[k]
        cuda.syncthreads()
        pair = c * LANES + lane
        row, c = pair >> SHIFT, pair & (WIDE - 1)
        if o0 + row < O and c0 + c < C:
            for k in range(share, TAPS, SHARES):
                total = float32(0)
                for n in range(SHARES):
                    total += sums[n * SHARE + (c * TAPS + k) * ROW + row]
                store(w, (o0 + row) * W_O + (c0 + c) * W_C + k * W_TAP, total)

    return fold
