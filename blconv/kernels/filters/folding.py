"""The function of the kernel that folds: every tap of the filters w is a weighted sum over the matrices V.

Every warp sums over some of the matrices; then the sums of the warps are added. The module
`blconv.kernels.filters.kernel` defines w, V and the table of constant weights.
"""

from collections.abc import Callable
from typing import Any

from numba import cuda, float32, uint32

from blconv.kernels.filters.sizes import FOLDING_READ_AHEAD, LANES, FilterSizes
from blconv.kernels.primitives.warp import device, loader, storer


def function(filters: FilterSizes) -> Callable[..., None]:
    """Return the kernel's function (V, w, table); see `blconv.kernels.filters.kernel`."""
    C, O, TAPS, Q = filters.channels, filters.outputs, filters.taps, filters.matrices
    INS, OUTS = filters.parts
    WIDE, SHARES = filters.folding_channels, filters.folding_warps
    ACROSS, SHIFT = -(-O // LANES), WIDE.bit_length() - 1
    W_O, W_C, W_TAP = filters.weight_strides
    ENTRIES, MATRIX, ROW = filters.entries, INS * C * OUTS * O, LANES + 1
    SHARE = WIDE * TAPS * ROW
    # With many taps the compiler does not unroll the loops, and arrays they index go to slow local memory.
    AT_ONCE = min(-(-Q // SHARES), max(1, FOLDING_READ_AHEAD // ENTRIES)) if TAPS <= 9 else 1
    HELD, STEP = AT_ONCE * ENTRIES, AT_ONCE * SHARES
    gather = _gatherer(ENTRIES, filters.complex)
    load, store = loader(filters.memory, 1), storer(filters.memory, 1)

    def fold(V, w, table):
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
                        taps[k] += gather(values, n * ENTRIES, table, (q * TAPS + k) * ENTRIES)
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


def _gatherer(entries: int, of_complex: bool) -> Callable[..., Any]:
    """Return the device function (values, n, table, at) that computes what one frequency adds to a tap.

    A tap is one pixel of a spatial filter. The matrix of a frequency has `entries` entries for each pair of
    channels: values[n], values[n + 1] and so on. The weights of the tap for these entries are table[at],
    table[at + 1] and so on. The result is the sum of the products of entries and weights. With `of_complex`
    there are four entries, and the weights are [[re, im], [-im, re]].
    """
    fours = entries // 4
    load, load_four = loader("float32", 1), loader("float32", 4)

    def gather_complex(values, n, table, at):
        re, im, _, _ = load_four(table, at)
        return re * (values[n] + values[n + 3]) + im * (values[n + 1] - values[n + 2])

    def gather_fours(values, n, table, at):
        total = float32(0)
        for m in range(fours):
            a, b, c, d = load_four(table, at + 4 * m)
            e = n + 4 * m
            total += a * values[e] + b * values[e + 1] + c * values[e + 2] + d * values[e + 3]
        return total

    def gather_singly(values, n, table, at):
        total = float32(0)
        for e in range(entries):
            total += load(table, at + e) * values[n + e]
        return total

    return device(gather_complex if of_complex else gather_singly if entries % 4 else gather_fours)
