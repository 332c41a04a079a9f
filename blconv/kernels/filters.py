"""Packing (filters to the matrices that multiply the coefficients) and folding, its adjoint.

    w       (O, C, taps)              ordinary filters, in memory so, or channels last: (O, taps, C)
    mixes   (Q, inputs, outputs, taps)  a constant table: how the taps make each entry of a matrix
    V       (Q, inputs, C, outputs, O)  V[q, i, c, o'] = sum over the taps of mixes[q, i, o'] w
            (Q, outputs, O, inputs, C)  the same transposed

For the spectral form q is a frequency, inputs and outputs are its real and imaginary parts, and V is
the real form [[re, im], [-im, re]] of the filters' spectrum; for the dense form there is one q, and
inputs and outputs are pixels. A block owns 32 channels along the last axis of V, a lane each, 8 of the
other ones, a warp each, and a run of q: it reads its filters once and writes rows of 32.
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
from blconv.kernels.warp import loader, storer, tf32

LANES, WARPS = 32, 8
BLOCKS = 1024  # wanted: enough to fill a GPU of 132 multiprocessors several times
AHEAD = 8  # numbers that folding reads before it uses the first


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
    def run(self) -> int:
        """q of a block."""
        return -(-self.matrices * self.tiles // BLOCKS)

    @property
    def runs(self) -> int:
        """Blocks along q."""
        return -(-self.matrices // self.run)

    @property
    def row(self) -> int:
        """Numbers of a block's filters that belong to one output channel; odd: no two lanes share a bank."""
        return self.block[1] * self.taps | 1

    @property
    def shared_bytes(self) -> int:
        """Bytes of a block's filters."""
        return 4 * self.block[0] * self.row


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


def _pack(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    (INS, OUTS), (HIGH, WIDE) = filters.parts, filters.block
    TILES, RUN, ROW, TRANSPOSED = filters.tiles, filters.run, filters.row, filters.transposed
    ACROSS, NUMBERS = -(-O // HIGH), WIDE * TAPS
    PIECES, ROWS = -(-NUMBERS // LANES), HIGH // WARPS
    # Steps in V from one input, output, input part and output part to the next.
    STEP_C, STEP_O = (1, INS * C) if TRANSPOSED else (OUTS * O, 1)
    STEP_IN, STEP_OUT = C * STEP_C, O * STEP_O
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
        for r in range(ROWS):
            row = warp + WARPS * r
            for n in range(PIECES):
                at = lane + LANES * n
                if at < NUMBERS:
                    source, target = place(min(o0 + row, O - 1), c0, at)
                    staged[row * ROW + target] = load(w, source)
        cuda.syncthreads()
        o, c = lane, warp
        if TRANSPOSED:
            o, c = warp, lane
        taps = cuda.local.array(TAPS, float32)
        for k in range(TAPS):
            taps[k] = staged[o * ROW + c * TAPS + k]
        o, c = o0 + o, c0 + c
        if o < O and c < C:
            for q in range(first, min(first + RUN, Q)):
                for i in range(INS):
                    for j in range(OUTS):
                        total, mix = float32(0), ((q * INS + i) * OUTS + j) * TAPS
                        for k in range(TAPS):
                            total += mixes[mix + k] * taps[k]
                        at = q * (INS * C * OUTS * O) + i * STEP_IN + j * STEP_OUT + c * STEP_C + o * STEP_O
                        store(V, at, leave(total))

    return pack


def _fold(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    (INS, OUTS), (HIGH, WIDE) = filters.parts, filters.block
    TILES, RUN, ROW = filters.tiles, filters.run, filters.row
    ACROSS, NUMBERS = -(-O // HIGH), WIDE * TAPS
    PIECES, ROWS = -(-NUMBERS // LANES), HIGH // WARPS
    AT_ONCE = max(1, AHEAD // (INS * OUTS))
    HELD = AT_ONCE * INS * OUTS
    place, load = _placer(filters), loader(filters.memory, 1)

    def fold(V, sums, mixes):
        staged = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
        tile, run = cuda.blockIdx.x % TILES, cuda.blockIdx.x // TILES
        o0, c0 = HIGH * (tile % ACROSS), WIDE * (tile // ACROSS)
        here = min(c0 + warp, C - 1) * (OUTS * O) + min(o0 + lane, O - 1)
        last = min(RUN * run + RUN, Q) - 1
        taps = cuda.local.array(TAPS, float32)
        values = cuda.local.array(HELD, float32)
        for k in range(TAPS):
            taps[k] = 0
        for start in range(RUN * run, last + 1, AT_ONCE):
            for n in range(AT_ONCE):
                matrix = min(start + n, last) * (INS * C * OUTS * O) + here
                for i in range(INS):
                    for j in range(OUTS):
                        values[(n * INS + i) * OUTS + j] = load(V, matrix + i * (C * OUTS * O) + j * O)
            for n in range(AT_ONCE):
                if start + n <= last:
                    for e in range(INS * OUTS):
                        mix = ((start + n) * (INS * OUTS) + e) * TAPS
                        for k in range(TAPS):
                            taps[k] += values[n * (INS * OUTS) + e] * mixes[mix + k]
        for k in range(TAPS):
            staged[lane * ROW + warp * TAPS + k] = taps[k]
        cuda.syncthreads()
        for r in range(ROWS):
            row = warp + WARPS * r
            for n in range(PIECES):
                at = lane + LANES * n
                if at < NUMBERS and o0 + row < O:
                    target, source = place(o0 + row, c0, at)
                    if source < (C - c0) * TAPS:
                        sums[run * (O * C * TAPS) + target] = staged[row * ROW + source]

    return fold
