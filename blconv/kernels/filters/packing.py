"""The function of the kernel that packs: a block reads some filters and makes several matrices from them.

`blconv.kernels.filters.kernel` defines the filters w, the matrices V and the table of factors.
"""

from collections.abc import Callable
from typing import Any

from numba import cuda, float32, uint32

from blconv.kernels.filters.sizes import LANES, WARPS, FilterSizes
from blconv.kernels.primitives.products import rounder
from blconv.kernels.primitives.warp import device, loader, shared_four, storer


def function(filters: FilterSizes) -> Callable[..., None]:
    """Return the kernel's function (w, V, table); see `blconv.kernels.filters.kernel`."""
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    HIGH, WIDE = filters.packing_block
    TILES, RUN, ROW = filters.packing_tiles, filters.packing_run, filters.row_stride
    THREADS, ACROSS, SHIFT = LANES * WARPS, -(-O // HIGH), WIDE.bit_length() - 1
    W_O, W_C, W_TAP = filters.weight_strides
    TRANSPOSED, ENTRIES, TABLE_OF_Q = filters.transposed, filters.entries, filters.table_numbers
    STAGED, TABLE_LAST = RUN * TABLE_OF_Q, Q * TABLE_OF_Q - 1
    PIECES, SUMS = -(-STAGED // THREADS), 2 if filters.complex else ENTRIES
    load, load_number = loader(filters.memory, 1), loader("float32", 1)
    add, write = _adder(ENTRIES, filters.complex), _matrix_writer(filters)

    def pack(w, V, table):
        staged = cuda.shared.array(0, float32)
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        tile, first = block % TILES, RUN * (block // TILES)
        o0, c0 = HIGH * (tile % ACROSS), WIDE * (tile // ACROSS)
        taps = cuda.local.array(TAPS, float32)
        numbers = cuda.local.array(PIECES, float32)
        row, column = thread >> SHIFT, thread & (WIDE - 1)
        at = min(o0 + row, O - 1) * W_O + min(c0 + column, C - 1) * W_C
        for k in range(TAPS):
            taps[k] = load(w, at + k * W_TAP)
        for n in range(PIECES):
            numbers[n] = load_number(table, min(first * TABLE_OF_Q + thread + THREADS * n, TABLE_LAST))
        for n in range(PIECES):
            if thread + THREADS * n < STAGED:
                staged[thread + THREADS * n] = numbers[n]
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
                write(V, first + n, o, c, totals)

    return pack


def _matrix_writer(filters: FilterSizes) -> Callable[..., Any]:
    """Return the device function (V, q, o, c, totals) that writes matrix q for the channels o and c.

    `totals` has the entries of the matrix for this pair of channels. If the entries are
    [[re, im], [-im, re]], `totals` has only re and im.
    """
    C, O = filters.channels, filters.outputs
    INS, OUTS = filters.parts
    # Steps in V between input channels, output channels, input parts and output parts.
    STEP_C, STEP_O = (1, INS * C) if filters.transposed else (OUTS * O, 1)
    STEP_IN, STEP_OUT, MATRIX = C * STEP_C, O * STEP_O, INS * C * OUTS * O
    rounded, store = rounder(filters.rounds_to_tf32), storer(filters.memory, 1)

    def write_complex(V, q, o, c, totals):
        at = q * MATRIX + c * STEP_C + o * STEP_O
        re, im = rounded(totals[0]), rounded(totals[1])
        store(V, at, re)
        store(V, at + STEP_OUT, im)
        store(V, at + STEP_IN, -im)
        store(V, at + STEP_IN + STEP_OUT, re)

    def write_entries(V, q, o, c, totals):
        at = q * MATRIX + c * STEP_C + o * STEP_O
        for i in range(INS):
            for j in range(OUTS):
                store(V, at + i * STEP_IN + j * STEP_OUT, rounded(totals[i * OUTS + j]))

    return device(write_complex if filters.complex else write_entries)


def _adder(entries: int, of_complex: bool) -> Callable[..., Any]:
    """Return the device function (totals, staged, at, tap) that adds the contribution of one tap to a matrix.

    For a pair of channels the matrix has `entries` entries. For each entry e, the function adds
    staged[at + e] * tap to totals[e], where `staged` is the table in shared memory and `tap` the weight of
    the tap. With `of_complex` the entries are [[re, im], [-im, re]], and only re and im are computed.
    """
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
