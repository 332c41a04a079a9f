"""The function of the float32 synthesis kernel: from coefficients to pixels; see `single` and `planes`.

T, in shared memory, is the result of the first stage, with gaps (`Float32Planes.row_stride`,
`column_stride`):

    T  (image rows, frequencies v, real | imaginary, tiles, 8 columns)

C, H and W are the channels and the size of an image, and KH and KW are the numbers of kept frequencies of its
axes. g and t are the numbers of a lane, as in `blconv.kernels.primitives.warp`. `blconv.kernels` explains the
terms.
"""

from collections.abc import Callable

from numba import cuda, float32

from blconv.kernels.primitives.products import multiplier, right_multiplier, rounder
from blconv.kernels.primitives.warp import device, loader, store_pair, storer
from blconv.kernels.transforms.fragments import step_count
from blconv.kernels.transforms.planes import Float32Planes, channel_writer, table_reader


def coefficient_reader(planes: Float32Planes) -> Callable[..., None]:
    """Return the device function that reads the coefficients at (u, v) and (-u, v) and combines them.

    Let Z be the coefficient at (u, v) and N the one at (-u, v), or 0 if there is none. For each tile, the
    function fills the local array e[4 * tile : 4 * tile + 4] with Re Z + Re N, Im Z - Im N, Im Z + Im N and
    Re Z - Re N. The first number and the negative of the second are operand B for the real part of T; the
    third and the fourth number are operand B for the imaginary part.
    """
    C, KH, PARTS, TILES = planes.channels, planes.kept_rows, planes.parts, planes.tiles
    load = loader("float32", TILES)

    def one(value, tile):
        return value

    def several(values, tile):
        return values[tile]

    pick = device(one if TILES == 1 else several)

    def real(z, e, image, images, u, v, channel):
        values = load(z, image * C + channel)
        for tile in range(TILES):
            e[4 * tile], e[4 * tile + 1], e[4 * tile + 2], e[4 * tile + 3] = pick(values, tile), 0, 0, 0

    def both(z, e, image, images, u, v, channel):
        plane = images * (2 * C)
        q, back, keep = KH + (v - 1) * (2 * KH - 1) + KH - 1 + u, 2 * u, float32(1)
        if v == 0:
            q, back = u, 0
        if back == 0:  # no partner: read the same numbers times 0, so that all reads start at once
            keep = float32(0)
        at = q * plane + image * (2 * C) + channel
        re, im = load(z, at), load(z, at + C)
        at -= back * plane
        partner_re, partner_im = load(z, at), load(z, at + C)
        for tile in range(TILES):
            e[4 * tile] = pick(re, tile) + keep * pick(partner_re, tile)
            e[4 * tile + 1] = pick(im, tile) - keep * pick(partner_im, tile)
            e[4 * tile + 2] = pick(im, tile) + keep * pick(partner_im, tile)
            e[4 * tile + 3] = pick(re, tile) - keep * pick(partner_re, tile)

    return device(real if PARTS == 1 else both)


def function(planes: Float32Planes) -> Callable[..., None]:
    """Return the kernel's function; see `blconv.kernels.transforms.single.synthesis`."""
    TILES, CHUNKS = planes.tiles, planes.chunks
    transform_columns = first_stage(planes)
    transform_rows = (second_stage_to_channels if planes.channels_last else second_stage_to_pixels)(planes)

    def synthesise(z, y, rows, columns, images):
        T = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
        g, t = lane >> 2, lane & 3
        image, first = cuda.blockIdx.x // CHUNKS, 8 * TILES * (cuda.blockIdx.x % CHUNKS)
        transform_columns(T, z, rows, images, image, first, warp, lane, g, t)
        cuda.syncthreads()
        transform_rows(T, y, columns, image, first, warp, lane, g, t)

    return synthesise


def first_stage(planes: Float32Planes) -> Callable[..., None]:
    """Return the device function of the first stage, which inverts the transform over vertical frequencies.

    It reads the coefficients z. The result is T, in shared memory: the kept horizontal frequencies v of each
    image row.
    """
    C, H, TILES, WARPS = planes.channels, planes.height, planes.tiles, planes.warps
    KH, KW, SPLIT = planes.kept_rows, planes.kept_columns, planes.split
    ROW, COLUMN, PART = planes.row_stride, planes.column_stride, 8 * TILES
    ROW_TILES, STEPS = -(-H // 16), -(-KH // 4)
    TABLE = 4 * ROW_TILES * STEPS
    HELD, SUMS, TERMS = TABLE * (1 + SPLIT), 8 * TILES * ROW_TILES, 4 * TILES
    multiply, rounded = multiplier(SPLIT), rounder(not SPLIT)
    read_table, read_coefficients = table_reader(HELD // 4, 4), coefficient_reader(planes)

    def transform_columns(T, z, rows, images, image, first, warp, lane, g, t):
        table = cuda.local.array(HELD, float32)
        read_table(table, rows, lane)
        e = cuda.local.array(TERMS, float32)
        c = cuda.local.array(SUMS, float32)
        channel = min(first + TILES * (4 * (g & 1) + (g >> 1)), C - TILES)
        for v in range(warp, KW, WARPS):
            for n in range(SUMS):
                c[n] = 0
            for s in range(STEPS):
                read_coefficients(z, e, image, images, min(4 * s + t, KH - 1), v, channel)
                for tile in range(TILES):
                    b0, b1 = rounded(e[4 * tile]), rounded(-e[4 * tile + 1])
                    b2, b3 = rounded(e[4 * tile + 2]), rounded(e[4 * tile + 3])
                    for m in range(ROW_TILES):
                        at, a = 4 * (2 * TILES * m + tile), 4 * (m * STEPS + s)
                        multiply(c, at, table, a, TABLE, b0, b1)
                        multiply(c, at + 4 * TILES, table, a, TABLE, b2, b3)
            for m in range(ROW_TILES):
                for below in range(2):
                    i = 16 * m + 8 * below + g
                    if i < H:
                        for tile in range(TILES):
                            at = i * ROW + v * COLUMN + 8 * tile + 2 * t
                            re = 4 * (2 * TILES * m + tile) + 2 * below
                            im = re + 4 * TILES
                            store_pair(T, at, rounded(c[re]), rounded(c[re + 1]))
                            store_pair(T, at + PART, rounded(c[im]), rounded(c[im + 1]))

    return device(transform_columns)


def second_stage_to_channels(planes: Float32Planes) -> Callable[..., None]:
    """Return the device function of the second stage, for images whose channels are last.

    It transforms every row of T, the result of the first stage, to pixels and writes the pixels to y. In the
    matrix products, the constant matrix is operand A, and T is operand B, with one channel per column.
    """
    C, H, W, KW = planes.channels, planes.height, planes.width, planes.kept_columns
    TILES, WARPS = planes.tiles, planes.warps
    ROW, COLUMN, PART = planes.row_stride, planes.column_stride, 8 * TILES
    SPLIT = planes.split
    COLUMN_TILES, STEPS = -(-W // 16), -(-KW // 4)
    TABLE = 4 * COLUMN_TILES * STEPS
    HELD, SUMS, NOTHING = TABLE * (1 + SPLIT), 4 * TILES * COLUMN_TILES, float32(0)
    multiply, read_table = multiplier(SPLIT), table_reader(HELD // 4, 4)
    write = channel_writer(TILES, rounder(False))

    def transform_rows(T, y, columns, image, first, warp, lane, g, t):
        table = cuda.local.array(HELD, float32)
        d = cuda.local.array(SUMS, float32)
        read_table(table, columns, lane)
        for i in range(warp, H, WARPS):
            for n in range(SUMS):
                d[n] = 0
            for s in range(STEPS):
                at = i * ROW + min(4 * s + t, KW - 1) * COLUMN + g
                for tile in range(TILES):
                    b0, b1 = T[at + 8 * tile], T[at + PART + 8 * tile]
                    for m in range(COLUMN_TILES):
                        multiply(d, 4 * (TILES * m + tile), table, 4 * (m * STEPS + s), TABLE, b0, b1)
            for m in range(COLUMN_TILES):
                for below in range(2):
                    j = 16 * m + 8 * below + g
                    if j < W:
                        for e in range(2):
                            channel = first + TILES * (4 * e + t)
                            if channel < C:
                                at = ((image * H + i) * W + j) * C + channel
                                n = 4 * TILES * m + 2 * below + e
                                write(y, at, d, n, n, NOTHING)

    return device(transform_rows)


def second_stage_to_pixels(planes: Float32Planes) -> Callable[..., None]:
    """Return the device function of the second stage, for images whose pixels are last.

    It transforms every row of T, the result of the first stage, to pixels and writes the pixels to y. In the
    matrix products, T is operand A, with one channel per row, and the constant matrix is operand B.
    """
    C, H, W, KW = planes.channels, planes.height, planes.width, planes.kept_columns
    TILES, WARPS, VECTOR = planes.tiles, planes.warps, planes.vector
    ROW, COLUMN, PART = planes.row_stride, planes.column_stride, 8 * TILES
    SPLIT = planes.split
    COLUMN_TILES, STEPS = step_count(W, VECTOR), -(-KW // 4)
    TABLE = 2 * COLUMN_TILES * STEPS
    HELD, SUMS = TABLE * (1 + SPLIT), 4 * COLUMN_TILES
    PAIR = 8 if TILES > 1 else 0  # a block of 8 channels fills half of operand A: its rows are repeated
    read_table, multiply = table_reader(HELD // 2, 2), right_multiplier(SPLIT, TABLE, 1)
    store = storer("float32", VECTOR)

    def write_fours(y, line, d, n, t):
        for m in range(COLUMN_TILES // 2):
            j = 16 * m + 4 * t
            if j < W:
                store(y, line + j, (d[8 * m + n], d[8 * m + n + 1], d[8 * m + n + 4], d[8 * m + n + 5]))

    def write_pairs(y, line, d, n, t):
        for m in range(COLUMN_TILES):
            j = 8 * m + 2 * t
            if j < W:
                store(y, line + j, (d[4 * m + n], d[4 * m + n + 1]))

    def write_singly(y, line, d, n, t):
        for m in range(COLUMN_TILES):
            for e in range(2):
                j = 8 * m + 2 * t + e
                if j < W:
                    store(y, line + j, d[4 * m + n + e])

    write = device({1: write_singly, 2: write_pairs, 4: write_fours}[VECTOR])

    def transform_rows(T, y, columns, image, first, warp, lane, g, t):
        table = cuda.local.array(HELD, float32)
        d = cuda.local.array(SUMS, float32)
        read_table(table, columns, lane)
        for i in range(warp, H, WARPS):
            for tile in range(0, TILES, 2):
                for n in range(SUMS):
                    d[n] = 0
                for s in range(STEPS):
                    at = i * ROW + min(4 * s + t, KW - 1) * COLUMN + 8 * tile + g
                    a0, a1, a2, a3 = T[at], T[at + PAIR], T[at + PART], T[at + PART + PAIR]
                    for m in range(COLUMN_TILES):
                        multiply(d, 4 * m, a0, a1, a2, a3, table, 2 * (m * STEPS + s))
                channel = first + TILES * (4 * (g & 1) + (g >> 1)) + tile
                if channel < C:
                    write(y, ((image * C + channel) * H + i) * W, d, 0, t)
                if PAIR > 0 and channel + 1 < C:
                    write(y, ((image * C + channel + 1) * H + i) * W, d, 2, t)

    return device(transform_rows)
