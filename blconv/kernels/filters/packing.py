"""Packing: a block's filters, through shared memory, to a run of the matrices that they make."""

from collections.abc import Callable
from typing import Any

from numba import cuda, float32, uint32

from blconv.kernels.filters.sizes import LANES, WARPS, Filters
from blconv.kernels.primitives.warp import device, loader, shared_four, storer, tf32


def packing(filters: Filters) -> Callable[..., None]:
    """The kernel (w, V, mixes)."""
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    (INS, OUTS), (HIGH, WIDE) = filters.parts, filters.block
    TILES, RUN, ROW, TRANSPOSED = filters.tiles, filters.run, filters.row, filters.transposed
    THREADS, ACROSS, SHIFT = LANES * WARPS, -(-O // HIGH), WIDE.bit_length() - 1
    W_O, W_C, W_TAP = filters.steps
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
