"""The kernel of R X S^T for images whose pixels are last: X is a plane, R and S are constant matrices.

A plane is one channel of one image. A warp filters a group of P planes at once, as if they lay side by side
in one plane of P * W columns; the numbers stay in its registers. Stage 1 sums over the rows of the image (the
product with R). A lane reads several neighbouring pixels of a row at once, and the results of stage 1 are
already in the order of operand A of stage 2. Stage 2 sums over the columns. Its constant matrix is
block-diagonal with S^T once for each plane of the group, so that the pixels of a row are neighbours in the
result. `blconv.kernels` explains the terms.
"""

from collections.abc import Callable

from numba import cuda, float32

from blconv.kernels.low_pass.sizes import LowPassSizes
from blconv.kernels.primitives.products import multiplier, right_multiplier, rounder
from blconv.kernels.primitives.warp import device, loader, storer


def function(sizes: LowPassSizes) -> Callable[..., None]:
    """Return the kernel's function, with the parameters (x, y, R, S, number of images).

    R is in the order of operand A of `mma`, and S, for a whole group, in that of operand B
    (`blconv.kernels.low_pass.sizes.operands`).
    """
    C, H, ROWS = sizes.channels, sizes.height, sizes.rows
    (GROUP, _), (READ, WRITTEN) = sizes.group, sizes.group_tiles
    WARPS, GROUPS, REREADS, SPLIT = sizes.warps, sizes.groups, sizes.rereads, sizes.split
    TILES, STEPS, STEP, THREADS = -(-ROWS // 16), -(-H // 8), 2 * READ, 32 * WARPS
    TABLE, SHARED = 4 * 32 * TILES * STEPS, 64 * READ * WRITTEN
    FRAGMENT, ALL = 4 * (1 + SPLIT), SHARED * (1 + SPLIT)
    HELD, SUMS = STEP if REREADS else STEP * STEPS * GROUPS, 4 * READ
    PAIR = 2 if sizes.store_vector == 4 else 1  # tiles that give a lane neighbouring pixels
    LAST_SUMS = 4 * PAIR

    multiply, multiply_right = multiplier(SPLIT), right_multiplier(SPLIT, SHARED, 32)
    read, write = _step_reader(sizes), _pixel_writer(sizes)
    rounded, load_fragment = rounder(not SPLIT), loader("float32", 4, again=True)

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
                        # Rows of operand A are rows of c: k = t is column 2t, and k = t + 4 is column 2t + 1.
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


def _step_reader(sizes: LowPassSizes) -> Callable[..., None]:
    """Return the device function (x, b, at, plane, s, g, t) that reads a lane's pixels of two rows.

    g is lane // 4 and t is lane % 4. The rows are 8 * s + t and 8 * s + 4 + t of the group of planes that
    begins with `plane`. Their pixels are stored in the local array b from index `at` on. In place of a row or
    column outside the plane, the last one of the plane is read; the constant matrices have zeros for it.
    """
    H, W, REREADS, READ = sizes.height, sizes.width, sizes.rereads, sizes.group_tiles[0]
    GROUP, VECTOR = sizes.group
    rounded = rounder(not sizes.split and sizes.memory == "float32")
    load = loader(sizes.memory, VECTOR, again=REREADS)

    def read_vectors(x, b, at, plane, s, g, t):
        for group in range(READ // VECTOR):
            column = min(8 * VECTOR * group + VECTOR * g, GROUP * W - VECTOR)
            start = (plane + column // W) * (H * W) + column % W
            for half in range(2):
                values = load(x, start + min(8 * s + 4 * half + t, H - 1) * W)
                for n in range(VECTOR):
                    b[at + half * READ + VECTOR * group + n] = rounded(values[n])

    def read_singly(x, b, at, plane, s, g, t):
        for tile in range(READ):
            column = min(8 * tile + g, GROUP * W - 1)
            start = (plane + column // W) * (H * W) + column % W
            for half in range(2):
                b[at + half * READ + tile] = rounded(load(x, start + min(8 * s + 4 * half + t, H - 1) * W))

    return device(read_singly if VECTOR == 1 else read_vectors)


def _pixel_writer(sizes: LowPassSizes) -> Callable[..., None]:
    """Return the device function (y, plane, i, left, d, n, t) that writes a lane's part of row i.

    t is lane % 4. The row is that of the group of planes that begins with `plane`, and the lane's part of the
    row begins at column `left`. The numbers are d[n] and d[n + 1]; if a lane writes four, also d[n + 4] and
    d[n + 5].
    """
    ROWS, COLUMNS, ALL = sizes.rows, sizes.columns, sizes.group[0] * sizes.columns
    store = storer(sizes.memory, sizes.store_vector)

    def offset(plane, i, column):
        return ((plane + column // COLUMNS) * ROWS + i) * COLUMNS + column % COLUMNS

    offset = device(offset)

    def write_four(y, plane, i, left, d, n, t):
        column = left + 4 * t
        if column < ALL:
            store(y, offset(plane, i, column), (d[n], d[n + 1], d[n + 4], d[n + 5]))

    def write_pair(y, plane, i, left, d, n, t):
        column = left + 2 * t
        if column < ALL:
            store(y, offset(plane, i, column), (d[n], d[n + 1]))

    def write_singly(y, plane, i, left, d, n, t):
        for e in range(2):
            column = left + 2 * t + e
            if column < ALL:
                store(y, offset(plane, i, column), d[n + e])

    return device({1: write_singly, 2: write_pair, 4: write_four}[sizes.store_vector])
