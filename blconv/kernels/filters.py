"""Packing (filters to the blocks that multiply the coefficients) and folding, its adjoint.

    w  (O, C, taps)                 ordinary filters
    V  (Q, 2, C, 2, O)              per frequency the real form [[re, im], [-im, re]] of the spectrum
                                    conj(DFT(w)), times the number of coefficients that q stands for
    waves (Q, taps, 2)              cos and sin of each frequency and tap, with that number in it

Where only the mean is kept, V is (1, 1, C, 1, O). A block owns 32 output and 8 input channels and some
of the frequencies: it reads its filters once, in runs of 8 * taps numbers, and writes rows of 32.
Folding leaves sums over each run of frequencies, (runs, O, C, taps), for the caller to add up: no
atomics, so the same bits every time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from numba import cuda, float32

from blconv.kernels.kernel import Kernel
from blconv.kernels.transforms import Memory
from blconv.kernels.warp import loader, storer, tf32

OUTPUTS, INPUTS = 32, 8  # channels of a block: a lane an output, a warp an input channel
BLOCKS = 512  # wanted: enough to fill a GPU of 132 multiprocessors several times
AHEAD = 4  # frequencies that folding reads at once


@dataclass(frozen=True)
class Filters:
    """What the kernels are compiled for."""

    channels: int
    outputs: int
    taps: int
    coefficients: int
    memory: Memory
    rounds: bool  # whether V is rounded to what the tensor cores read

    @property
    def parts(self) -> int:
        """Real and imaginary, or real alone."""
        return 1 if self.coefficients == 1 else 2

    @property
    def tiles(self) -> int:
        """Blocks for one run of frequencies."""
        return -(-self.outputs // OUTPUTS) * -(-self.channels // INPUTS)

    @property
    def run(self) -> int:
        """Frequencies of a block."""
        return -(-self.coefficients * self.tiles // BLOCKS)

    @property
    def runs(self) -> int:
        """Blocks along the frequencies."""
        return -(-self.coefficients // self.run)


@lru_cache(maxsize=256)
def pack(filters: Filters) -> Kernel:
    """The kernel (w, V, waves), of runs * tiles blocks."""
    pointer = "float32*" if filters.memory == "float32" else "uint16*"
    signature = (pointer, pointer, "float32*")
    return Kernel(_pack(filters), signature, OUTPUTS * INPUTS, _shared(filters), filters)


@lru_cache(maxsize=256)
def fold(filters: Filters) -> Kernel:
    """The kernel (V, sums, waves), of runs * tiles blocks; sums (runs, O, C, taps) are float32."""
    pointer = "float32*" if filters.memory == "float32" else "uint16*"
    signature = (pointer, "float32*", "float32*")
    return Kernel(_fold(filters), signature, OUTPUTS * INPUTS, _shared(filters), filters)


def _shared(filters: Filters) -> int:
    """Bytes of a block's filters: INPUTS * taps numbers an output channel, without bank conflicts."""
    return 4 * OUTPUTS * (INPUTS * filters.taps | 1)


def _pack(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q, PARTS = (
        filters.channels, filters.outputs, filters.taps, filters.coefficients, filters.parts,
    )  # fmt: skip
    TILES, RUN, ROW = filters.tiles, filters.run, INPUTS * filters.taps
    ACROSS, STRIDE, PIECES = -(-O // OUTPUTS), ROW | 1, -(-ROW // 32)
    load, wave, store = loader(filters.memory, 1), loader("float32", 2), storer(filters.memory, 1)

    def rounded(x):
        return tf32(x)

    def same(x):
        return x

    leave = cuda.jit(rounded if filters.rounds else same, device=True, inline=True)

    def pack(w, V, waves):
        staged = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
        tile, first = cuda.blockIdx.x % TILES, RUN * (cuda.blockIdx.x // TILES)
        o0, c0 = OUTPUTS * (tile % ACROSS), INPUTS * (tile // ACROSS)
        for r in range(OUTPUTS // INPUTS):
            row = warp + INPUTS * r
            start = (min(o0 + row, O - 1) * C + c0) * TAPS
            for n in range(PIECES):
                at = lane + 32 * n
                if at < ROW:
                    staged[row * STRIDE + at] = load(w, start + min(at, (C - c0) * TAPS - 1))
        cuda.syncthreads()
        o, c = lane, warp
        taps = cuda.local.array(TAPS, float32)
        for k in range(TAPS):
            taps[k] = staged[o * STRIDE + c * TAPS + k]
        o, c = o0 + o, c0 + c
        if o < O and c < C:
            for q in range(first, min(first + RUN, Q)):
                re, im = float32(0), float32(0)
                for k in range(TAPS):
                    cosine, sine = wave(waves, 2 * (q * TAPS + k))
                    re += cosine * taps[k]
                    im += sine * taps[k]
                at = ((q * PARTS) * C + c) * (PARTS * O) + o
                store(V, at, leave(re))
                if PARTS == 2:
                    store(V, at + O, leave(im))
                    store(V, at + 2 * C * O, leave(-im))
                    store(V, at + (2 * C + 1) * O, leave(re))

    return pack


def _fold(filters: Filters) -> Callable[..., None]:
    C, O, TAPS, Q, PARTS = (
        filters.channels, filters.outputs, filters.taps, filters.coefficients, filters.parts,
    )  # fmt: skip
    TILES, RUN, ROW = filters.tiles, filters.run, INPUTS * filters.taps
    ACROSS, STRIDE, PIECES = -(-O // OUTPUTS), ROW | 1, -(-ROW // 32)
    load, wave = loader(filters.memory, 1), loader("float32", 2)

    def real(V, at):
        return load(V, at), float32(0)

    def both(V, at):
        re = load(V, at) + load(V, at + (2 * C + 1) * O)
        return re, load(V, at + O) - load(V, at + 2 * C * O)

    read = cuda.jit(real if PARTS == 1 else both, device=True, inline=True)

    def fold(V, sums, waves):
        staged = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
        tile, run = cuda.blockIdx.x % TILES, cuda.blockIdx.x // TILES
        o0, c0 = OUTPUTS * (tile % ACROSS), INPUTS * (tile // ACROSS)
        place = min(c0 + warp, C - 1) * (PARTS * O) + min(o0 + lane, O - 1)
        last = min(RUN * run + RUN, Q) - 1
        taps = cuda.local.array(TAPS, float32)
        re = cuda.local.array(AHEAD, float32)
        im = cuda.local.array(AHEAD, float32)
        for k in range(TAPS):
            taps[k] = 0
        for start in range(RUN * run, last + 1, AHEAD):
            for n in range(AHEAD):
                re[n], im[n] = read(V, min(start + n, last) * (PARTS * PARTS * C * O) + place)
            for n in range(AHEAD):
                if start + n <= last:
                    for k in range(TAPS):
                        cosine, sine = wave(waves, 2 * ((start + n) * TAPS + k))
                        taps[k] += re[n] * cosine + im[n] * sine
        for k in range(TAPS):
            staged[lane * STRIDE + warp * TAPS + k] = taps[k]
        cuda.syncthreads()
        for r in range(OUTPUTS // INPUTS):
            row = warp + INPUTS * r
            start = ((run * O + o0 + row) * C + c0) * TAPS
            for n in range(PIECES):
                at = lane + 32 * n
                if at < ROW and at < (C - c0) * TAPS and o0 + row < O:
                    sums[start + at] = staged[row * STRIDE + at]

    return fold
