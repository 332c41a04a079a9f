"""The function of the float32 analysis kernel: from pixels to kept coefficients; see `single` and `planes`.

T, in shared memory, is the result of the first stage, with gaps (`Float32Planes.row_stride`,
`column_stride`):

    T  (image rows, frequencies v, real | imaginary, tiles, 8 columns)

C, H and W are the channels and the size of an image, and KH and KW are the numbers of kept frequencies of its
axes. g and t are the numbers of a lane, as in `blconv.kernels.primitives.warp`. `blconv.kernels` explains the
terms.
"""

from collections.abc import Callable

from numba import cuda, float32

from blconv.kernels.primitives.products import multiplier, rounder
from blconv.kernels.primitives.warp import device, loader, store_pair
from blconv.kernels.transforms.fragments import step_count
from blconv.kernels.transforms.planes import Float32Planes, channel_writer, table_reader

ANALYSIS_READ_AHEAD = 64  # numbers that a lane has in flight, at most, unless one row has more


def row_reader(planes: Float32Planes, convert: Callable[..., float]) -> Callable[..., None]:
    """Return the device function that reads a lane's part of image row i, as operand B of the first stage.

    The function is (x, b, at, image, i, channel, t). For each step s it fills the local array
    b[at + (2 * s + half) * tiles + tile]; half 0 is k = t, and half 1 is k = t + 4. A lane has one channel
    for each tile; these channels are neighbours, and channel is the first of them. In place of a pixel or
    channel outside the image, the function reads one inside the image. This is harmless: the constant
    matrices have zeros for such pixels, and the results of such channels are not written.
    """
    C, H, W, TILES = planes.channels, planes.height, planes.width, planes.tiles
    STEPS = step_count(W, planes.vector)
    load = loader("float32", TILES if planes.channels_last else planes.vector)

    def channels_in_vectors(x, b, at, image, i, channel, t):
        line = (image * H + i) * W
        for s in range(2 * STEPS):
            values = load(x, (line + min(4 * s + t, W - 1)) * C + channel)
            for tile in range(TILES):
                b[at + s * TILES + tile] = convert(values[tile])

    def channels_one_by_one(x, b, at, image, i, channel, t):
        line = (image * H + i) * W
        for s in range(2 * STEPS):
            b[at + s] = convert(load(x, (line + min(4 * s + t, W - 1)) * C + channel))

    def pixels_in_fours(x, b, at, image, i, channel, t):
        for tile in range(TILES):
            line = ((image * C + channel + tile) * H + i) * W
            for s in range(STEPS // 2):
                values = load(x, line + min(16 * s + 4 * t, W - 4))
                for n in range(4):
                    b[at + (4 * s + n) * TILES + tile] = convert(values[n])

    def pixels_in_pairs(x, b, at, image, i, channel, t):
        for tile in range(TILES):
            line = ((image * C + channel + tile) * H + i) * W
            for s in range(STEPS):
                values = load(x, line + min(8 * s + 2 * t, W - 2))
                b[at + 2 * s * TILES + tile] = convert(values[0])
                b[at + (2 * s + 1) * TILES + tile] = convert(values[1])

    def pixels_one_by_one(x, b, at, image, i, channel, t):
        for tile in range(TILES):
            line = ((image * C + channel + tile) * H + i) * W
            for s in range(2 * STEPS):
                b[at + s * TILES + tile] = convert(load(x, line + min(4 * s + t, W - 1)))

    if planes.channels_last:
        return device(channels_one_by_one if TILES == 1 else channels_in_vectors)
    return device({1: pixels_one_by_one, 2: pixels_in_pairs, 4: pixels_in_fours}[planes.vector])


def function(planes: Float32Planes) -> Callable[..., None]:
    """Return the kernel's function; see `blconv.kernels.transforms.single.analysis`."""
    TILES, CHUNKS = planes.tiles, planes.chunks
    transform_rows, transform_columns = first_stage(planes), second_stage(planes)

    def analyse(x, z, columns, rows, images):
        T = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
        g, t = lane >> 2, lane & 3
        image, first = cuda.blockIdx.x // CHUNKS, 8 * TILES * (cuda.blockIdx.x % CHUNKS)
        transform_rows(T, x, columns, image, first, warp, lane, g, t)
        cuda.syncthreads()
        transform_columns(T, z, rows, images, image, first, warp, lane, g, t)

    return analyse


def first_stage(planes: Float32Planes) -> Callable[..., None]:
    """Return the device function of the first stage: it transforms every image row of x.

    The result is T, in shared memory: the kept frequencies of each row.
    """
    C, H, KW, TILES, WARPS = planes.channels, planes.height, planes.kept_columns, planes.tiles, planes.warps
    ROW, COLUMN, PART = planes.row_stride, planes.column_stride, 8 * TILES
    COLUMN_TILES, STEPS = -(-KW // 8), step_count(planes.width, planes.vector)
    TABLE = 4 * COLUMN_TILES * STEPS
    HELD, LOADED, SUMS = TABLE * (1 + planes.split), 2 * STEPS * TILES, 4 * TILES
    AT_ONCE = max(1, min(ANALYSIS_READ_AHEAD // LOADED, -(-H // WARPS)))
    PIXELS = LOADED * AT_ONCE
    multiply, rounded = multiplier(planes.split), rounder(not planes.split)
    read_table, read_pixels = table_reader(HELD // 4, 4), row_reader(planes, rounded)

    def transform_rows(T, x, columns, image, first, warp, lane, g, t):
        table = cuda.local.array(HELD, float32)
        read_table(table, columns, lane)
        b = cuda.local.array(PIXELS, float32)
        c = cuda.local.array(SUMS, float32)
        channel = min(first + TILES * (4 * (g & 1) + (g >> 1)), C - TILES)
        for top in range(warp, H, WARPS * AT_ONCE):
            for r in range(AT_ONCE):  # all reads before the first product: more bytes in flight
                read_pixels(x, b, r * LOADED, image, min(top + r * WARPS, H - 1), channel, t)
            for r in range(AT_ONCE):
                i = top + r * WARPS
                for m in range(COLUMN_TILES):
                    for n in range(SUMS):
                        c[n] = 0
                    for s in range(STEPS):
                        for tile in range(TILES):
                            at = r * LOADED + 2 * s * TILES + tile
                            multiply(c, 4 * tile, table, 4 * (m * STEPS + s), TABLE, b[at], b[at + TILES])
                    v = 8 * m + g
                    if v < KW and i < H:
                        for tile in range(TILES):
                            at = i * ROW + v * COLUMN + 8 * tile + 2 * t
                            store_pair(T, at, rounded(c[4 * tile]), rounded(c[4 * tile + 1]))
                            store_pair(T, at + PART, rounded(c[4 * tile + 2]), rounded(c[4 * tile + 3]))

    return device(transform_rows)


def second_stage(planes: Float32Planes) -> Callable[..., None]:
    """Return the device function of the second stage: it transforms T along H and writes the result to z.

    T is the result of the first stage, in shared memory; H is the vertical axis of the images. The kept
    coefficients are written to z.
    """
    C, H, TILES, WARPS = planes.channels, planes.height, planes.tiles, planes.warps
    KH, KW, PARTS = planes.kept_rows, planes.kept_columns, planes.parts
    ROW, COLUMN = planes.row_stride, planes.column_stride
    ROW_TILES, STEPS = -(-KH // 8), step_count(H, 1)
    TABLE = 4 * ROW_TILES * STEPS
    HELD, SUMS = TABLE * (1 + planes.split), 8 * TILES * ROW_TILES
    PLUS, MINUS = float32(1), float32(-1)
    multiply, read_table = multiplier(planes.split), table_reader(HELD // 4, 4)
    write = channel_writer(TILES, rounder(not planes.split))

    def transform_columns(T, z, rows, images, image, first, warp, lane, g, t):
        table = cuda.local.array(HELD, float32)
        read_table(table, rows, lane)
        step, own = images * (PARTS * C), image * (PARTS * C) + first + TILES * t
        eight = 8 * step
        d = cuda.local.array(SUMS, float32)
        for v in range(warp, KW, WARPS):
            for n in range(SUMS):
                d[n] = 0
            for s in range(STEPS):
                upper = min(8 * s + t, H - 1) * ROW + v * COLUMN + g
                lower = min(8 * s + t + 4, H - 1) * ROW + v * COLUMN + g
                for column in range(2 * TILES):  # the tiles of the real parts, then of the imaginary ones
                    b0, b1 = T[upper + 8 * column], T[lower + 8 * column]
                    for m in range(ROW_TILES):
                        at = 4 * (2 * TILES * m + column)
                        multiply(d, at, table, 4 * (m * STEPS + s), TABLE, b0, b1)
            # Offsets of the coefficients at u and -u, by steps between frequencies: few 64-bit products.
            centre = 0 if v == 0 else KH + (v - 1) * (2 * KH - 1) + KH - 1
            plus, minus = (centre + g) * step + own, (centre - g) * step + own
            for m in range(ROW_TILES):
                u = 8 * m + g
                if u < KH:
                    re, im = 8 * TILES * m, 8 * TILES * m + 4 * TILES
                    for e in range(2):  # columns 2t and 2t + 1 of every tile
                        if first + TILES * t + 4 * TILES * e < C:
                            # Z(u) = sum (cos - i sin) * (re + i im): d[n] sums with cos, d[n + 2] with sin
                            at = plus + 4 * TILES * e
                            write(z, at, d, re + e, im + 2 + e, PLUS)
                            if PARTS == 2:
                                write(z, at + C, d, im + e, re + 2 + e, MINUS)
                            if u > 0 and v > 0:
                                at = minus + 4 * TILES * e
                                write(z, at, d, re + e, im + 2 + e, MINUS)
                                write(z, at + C, d, im + e, re + 2 + e, PLUS)
                plus += eight
                minus -= eight

    return device(transform_columns)
