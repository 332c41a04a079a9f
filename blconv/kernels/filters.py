"""Packing (filters to the matrices that multiply the coefficients) and folding, its adjoint.

    w       (O, C, taps)              ordinary filters, in memory so, or channels last: (O, taps, C)
    mixes   (Q, taps, inputs, outputs)  a constant table: how the taps make each entry of a matrix
    V       (Q, inputs, C, outputs, O)  V[q, i, :, j, :] = sum over the taps k of mixes[q, k, i, j] w[:, :, k]
            (Q, outputs, O, inputs, C)  the same transposed

For the spectral form q is a frequency, inputs and outputs are its real and imaginary parts, and V is
the real form [[re, im], [-im, re]] of the filters' spectrum; for the dense form there is one q, and
inputs and outputs are pixels. A block owns 32 channels along the last axis of V, a lane each, 8 of the
other ones, a warp each, and a run of q: it reads its filters and mixes once and writes rows of 32.
Folding leaves sums over each run of q, (runs, O, C, taps), for the caller to add up: no atomics, so the
same bits every time.
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
BLOCKS = 1024  # wanted: enough to fill a GPU of 132 multiprocessors several times
AHEAD = 8  # numbers that folding reads before it uses the first
MIXES = 4096  # numbers of the table that a block holds, at most, unless one q has more


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
        """Output and input channels of a block."""
        return (WARPS, LANES) if self.transposed else (LANES, WARPS)

    @property
    def tiles(self) -> int:
        """Blocks for one run of q."""
        return -(-self.outputs // self.block[0]) * -(-self.channels // self.block[1])

    @property
    def mixes(self) -> int:
        """Numbers of the table for one q."""
        return self.taps * self.parts[0] * self.parts[1]

    @property
    def run(self) -> int:
        """q of a block."""
        return min(-(-self.matrices * self.tiles // BLOCKS), max(1, MIXES // self.mixes))

    @property
    def runs(self) -> int:
        """Blocks along q."""
        return -(-self.matrices // self.run)

    @property
    def row(self) -> int:
        """Numbers of a block's filters that belong to one output channel; odd: no two lanes share a bank."""
        return self.block[1] * self.taps | 1

    @property
    def staged(self) -> int:
        """Where in shared memory the filters are: after the mixes, whose vectors are aligned."""
        return self.run * self.mixes

    @property
    def shared_bytes(self) -> int:
        """Bytes of a block's mixes and filters."""
        return 4 * (self.staged + self.block[0] * self.row)


@lru_cache(maxsize=256)
def pack(filters: Filters) -> Kernel:
    """The kernel (w, V, mixes), of runs * tiles blocks."""
    pointer = "float32*" if filters.memory == "float32" else "uint16*"
    signature = (pointer, pointer, "float32*")
    return Kernel(_pack(filters), signature, LANES * WARPS, filters.shared_bytes, filters)


@lru_cache(maxsize=256)
def fold(filters: Filters) -> Kernel:
    """The kernel (V, sums, mixes), of runs * tiles blocks; sums are float32, in the layout of w."""
    pointer = "float32*" if filters.memory == "float32" else "uint16*"
    signature = (pointer, "float32*", "float32*")
    return Kernel(_fold(filters), signature, LANES * WARPS, filters.shared_bytes, filters)


def _placer(filters: Filters) -> Callable[..., Any]:
    """The function (row, at) -> where a block's number `at` of an output channel is: in w, and staged.

    `at` runs as w lies in memory. Beyond the last channel w is read again from inside.
    """
    C, TAPS, WIDTH = filters.channels, filters.taps, filters.block[1]

    def taps_last(output, c0, at):
        return (output * C + c0) * TAPS + min(at, (C - c0) * TAPS - 1), at

    def channels_last(output, c0, at):
        tap, c = at // WIDTH, at % WIDTH
        return (output * TAPS + tap) * C + min(c0 + c, C - 1), c * TAPS + tap

    place: Callable[..., Any] = cuda.jit(
        channels_last if filters.channels_last else taps_last, device=True, inline=True
    )
    return place


def _mixers(entries: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A matrix's entries from one tap, totals[e] += mixes[at + e] tap, and a tap from the entries."""
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

    def gather_fours(values, n, staged, at):
        total = float32(0)
        for m in range(fours):
            a, b, c, d = shared_four(staged, at + 4 * m)
            e = n * entries + 4 * m
            total += a * values[e] + b * values[e + 1] + c * values[e + 2] + d * values[e + 3]
        return total

    def gather_singly(values, n, staged, at):
        total = float32(0)
        for e in range(entries):
            total += staged[at + e] * values[n * entries + e]
        return total

    add, gather = (add_singly, gather_singly) if entries % 4 else (add_fours, gather_fours)
    return cuda.jit(add, device=True, inline=True), cuda.jit(gather, device=True, inline=True)


def _pack(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    (INS, OUTS), (HIGH, WIDE) = filters.parts, filters.block
    TILES, RUN, ROW, TRANSPOSED = filters.tiles, filters.run, filters.row, filters.transposed
    ACROSS, NUMBERS = -(-O // HIGH), WIDE * TAPS
    PIECES, ROWS = -(-NUMBERS // LANES), HIGH // WARPS
    # Steps in V from one input, output, input part and output part to the next.
    STEP_C, STEP_O = (1, INS * C) if TRANSPOSED else (OUTS * O, 1)
    STEP_IN, STEP_OUT = C * STEP_C, O * STEP_O
    STAGED, MIXES_OF_Q = filters.staged, filters.mixes
    ENTRIES = INS * OUTS
    add, _ = _mixers(ENTRIES)
    place, load, store = _placer(filters), loader(filters.memory, 1), storer(filters.memory, 1)

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
        for at in range(cuda.threadIdx.x, min(RUN, Q - first) * MIXES_OF_Q, LANES * WARPS):
            staged[at] = mixes[first * MIXES_OF_Q + at]
        for r in range(ROWS):
            row = warp + WARPS * r
            for n in range(PIECES):
                at = lane + LANES * n
                if at < NUMBERS:
                    source, target = place(min(o0 + row, O - 1), c0, at)
                    staged[STAGED + row * ROW + target] = load(w, source)
        cuda.syncthreads()
        o, c = lane, warp
        if TRANSPOSED:
            o, c = warp, lane
        taps = cuda.local.array(TAPS, float32)
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
                        at = q * (INS * C * OUTS * O) + i * STEP_IN + j * STEP_OUT + c * STEP_C + o * STEP_O
                        store(V, at, leave(totals[i * OUTS + j]))

    return pack


def _fold(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    (INS, OUTS), (HIGH, WIDE) = filters.parts, filters.block
    TILES, RUN, ROW = filters.tiles, filters.run, filters.row
    ACROSS, NUMBERS = -(-O // HIGH), WIDE * TAPS
    PIECES, ROWS = -(-NUMBERS // LANES), HIGH // WARPS
    # With many taps the compiler leaves loops as they are, and what they index in slow local memory.
    AT_ONCE = max(1, AHEAD // (INS * OUTS)) if TAPS <= 9 else 1
    HELD = AT_ONCE * INS * OUTS
    STAGED, MIXES_OF_Q, ENTRIES = filters.staged, filters.mixes, INS * OUTS
    _, gather = _mixers(ENTRIES)
    place, load = _placer(filters), loader(filters.memory, 1)

    def fold(V, sums, mixes):
        staged = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
        tile, run = cuda.blockIdx.x % TILES, cuda.blockIdx.x // TILES
        o0, c0 = HIGH * (tile % ACROSS), WIDE * (tile // ACROSS)
        here = min(c0 + warp, C - 1) * (OUTS * O) + min(o0 + lane, O - 1)
        first, last = RUN * run, min(RUN * run + RUN, Q) - 1
        for at in range(cuda.threadIdx.x, (last + 1 - first) * MIXES_OF_Q, LANES * WARPS):
            staged[at] = mixes[first * MIXES_OF_Q + at]
        cuda.syncthreads()
        taps = cuda.local.array(TAPS, float32)
        values = cuda.local.array(HELD, float32)
        for k in range(TAPS):
            taps[k] = 0
        for start in range(first, last + 1, AT_ONCE):
            for n in range(AT_ONCE):
                matrix = min(start + n, last) * (INS * C * OUTS * O) + here
                for i in range(INS):
                    for j in range(OUTS):
                        values[(n * INS + i) * OUTS + j] = load(V, matrix + i * (C * OUTS * O) + j * O)
            for n in range(AT_ONCE):
                if start + n <= last:
                    for k in range(TAPS):
                        taps[k] += gather(values, n, staged, ((start + n - first) * TAPS + k) * ENTRIES)
        for k in range(TAPS):
            staged[STAGED + lane * ROW + warp * TAPS + k] = taps[k]
        cuda.syncthreads()
        for r in range(ROWS):
            row = warp + WARPS * r
            for n in range(PIECES):
                at = lane + LANES * n
                if at < NUMBERS and o0 + row < O:
                    target, source = place(o0 + row, c0, at)
                    if source < (C - c0) * TAPS:
                        sums[run * (O * C * TAPS) + target] = staged[STAGED + row * ROW + source]

    return fold
