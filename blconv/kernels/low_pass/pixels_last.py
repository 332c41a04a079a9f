"""R x S^T where pixels are last: both products of a plane in the registers of one warp.

The planes of a group lie side by side, as one of P W columns. Stage 1 contracts i: its columns are
pixels of a row, V neighbours a lane as they are read. Its sums are, without a move, the operand A of
stage 2, which contracts j (with S once for each plane of the group, zeros elsewhere), so that pixels of
a row come out side by side.
"""

from collections.abc import Callable

from numba import cuda, float32

from blconv.kernels.low_pass.sizes import LowPassSizes
from blconv.kernels.primitives.products import multiplier, right_multiplier, rounder
from blconv.kernels.primitives.warp import device, loader, storer


def function(maps: LowPassSizes) -> Callable[..., None]:
    """The kernel (x, y, R as operand A, S of a group as operand B, images)."""
    C, H, W, ROWS = maps.channels, maps.height, maps.width, maps.rows
    (GROUP, VECTOR), (READ, WRITTEN) = maps.group, maps.group_tiles
    WARPS, GROUPS, REREADS = maps.warps, maps.groups, maps.rereads
    TILES, STEPS, STEP = -(-ROWS // 16), -(-H // 8), 2 * READ
    TABLE, SHARED = 4 * 32 * TILES * STEPS, 64 * READ * WRITTEN
    FRAGMENT, SPLIT, THREADS = 4 * (1 + maps.split), maps.split, 32 * WARPS
    HELD, SUMS, ALL = STEP if REREADS else STEP * STEPS * GROUPS, 4 * READ, SHARED * (1 + SPLIT)
    PAIR = 2 if maps.store_vector == 4 else 1  # tiles that give a lane its neighbours
    LAST_SUMS = 4 * PAIR

    multiply, multiply_right = multiplier(SPLIT), right_multiplier(SPLIT, SHARED, 32)
    convert, rounded = rounder(not SPLIT and maps.memory == "float32"), rounder(not SPLIT)
    load, write = loader(maps.memory, VECTOR, again=REREADS), _pixel_writer(maps)
    load_fragment = loader("float32", 4, again=True)

    def read_vectors(x, b, at, plane, s, g, t):
        for group in range(READ // VECTOR):
            column = min(8 * VECTOR * group + VECTOR * g, GROUP * W - VECTOR)
            start = (plane + column // W) * (H * W) + column % W
            for half in range(2):
                values = load(x, start + min(8 * s + 4 * half + t, H - 1) * W)
                for n in range(VECTOR):
                    b[at + half * READ + VECTOR * group + n] = convert(values[n])

    def read_singly(x, b, at, plane, s, g, t):
        for tile in range(READ):
            column = min(8 * tile + g, GROUP * W - 1)
            start = (plane + column // W) * (H * W) + column % W
            for half in range(2):
                b[at + half * READ + tile] = convert(load(x, start + min(8 * s + 4 * half + t, H - 1) * W))

    read = device(read_singly if VECTOR == 1 else read_vectors)

    def low_pass(x, y, rows, columns, images):
        T = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
        g, t = lane // 4, lane % 4
        planes = images * C
        base = (cuda.blockIdx.x * WARPS + warp) * (GROUPS * GROUP)

        b = cuda.local.array(HELD, float32)
        if not REREADS:
            for r in range(GROUPS):  # all reads before the first product: more bytes in flight
                plane = min(base + r * GROUP, planes - GROUP)
                for s in range(STEPS):
                    read(x, b, STEP * (r * STEPS + s), plane, s, g, t)
        for n in range(cuda.threadIdx.x, ALL, THREADS):
            T[n] = columns[n]
        cuda.syncthreads()

        a = cuda.local.array(FRAGMENT, float32)
        c = cuda.local.array(SUMS, float32)
        d = cuda.local.array(LAST_SUMS, float32)
        for r in range(GROUPS):
            plane = base + r * GROUP
            for m in range(TILES):
                for n in range(SUMS):
                    c[n] = 0
                for s in range(STEPS):
                    at = 4 * (32 * (m * STEPS + s) + lane)
                    a[0], a[1], a[2], a[3] = load_fragment(rows, at)
                    if SPLIT:
                        a[4], a[5], a[6], a[7] = load_fragment(rows, TABLE + at)
                    at = 0 if REREADS else STEP * (r * STEPS + s)
                    if REREADS:
                        read(x, b, at, min(plane, planes - GROUP), s, g, t)
                    for tile in range(READ):
                        multiply(c, 4 * tile, a, 0, 4, b[at + tile], b[at + READ + tile])
                for n in range(0, WRITTEN, PAIR):
                    for k in range(LAST_SUMS):
                        d[k] = 0
                    for tile in range(READ):
                        # A row of operand A is one of c's: its k = t is column 2t of a tile, t + 4 2t + 1.
                        a0, a1 = rounded(c[4 * tile]), rounded(c[4 * tile + 2])
                        a2, a3 = rounded(c[4 * tile + 1]), rounded(c[4 * tile + 3])
                        for k in range(PAIR):
                            at = 64 * (tile * WRITTEN + n + k) + lane
                            multiply_right(d, 4 * k, a0, a1, a2, a3, T, at)
                    for below in range(2):
                        i = 16 * m + 8 * below + g
                        if i < ROWS and plane < planes:
                            write(y, plane, i, 8 * n, d, 2 * below, t)

    return low_pass


def _pixel_writer(maps: LowPassSizes) -> Callable[..., None]:
    """The procedure that writes row i of a group from column `left` on: a lane's d[n], d[n + 1] of a tile."""
    ROWS, COLUMNS, ALL = maps.rows, maps.columns, maps.group[0] * maps.columns
    store = storer(maps.memory, maps.store_vector)

    def place(plane, i, column):
        return ((plane + column // COLUMNS) * ROWS + i) * COLUMNS + column % COLUMNS

    place = device(place)

    def write_four(y, plane, i, left, d, n, t):
        column = left + 4 * t
        if column < ALL:
            store(y, place(plane, i, column), (d[n], d[n + 1], d[n + 4], d[n + 5]))

    def write_pair(y, plane, i, left, d, n, t):
        column = left + 2 * t
        if column < ALL:
            store(y, place(plane, i, column), (d[n], d[n + 1]))

    def write_singly(y, plane, i, left, d, n, t):
        for e in range(2):
            column = left + 2 * t + e
            if column < ALL:
                store(y, place(plane, i, column), d[n + e])

    return device({1: write_singly, 2: write_pair, 4: write_four}[maps.store_vector])
