"""The function of the 16-bit analysis kernel: from pixels to kept coefficients; see `half` and `half_planes`.

T, in shared memory, is the result of the first stage. A word of T (32 bits) holds two numbers, one of image
row 2 * p and one of image row 2 * p + 1, where p is the index of the pair of rows:

    T  (pairs of rows, frequencies v, real | imaginary, 8 columns, tiles)
"""

from collections.abc import Callable

from numba import cuda, float32, uint32

from blconv.kernels.primitives.warp import device
from blconv.kernels.primitives.words import (
    high_halves,
    low_halves,
    packer,
    reader,
    shared_reader,
    shared_writer,
)
from blconv.kernels.transforms.half_fragments import step_count, word_count
from blconv.kernels.transforms.half_planes import (
    WORDS_AHEAD,
    HalfPlanes,
    channel_writer,
    swizzle,
    table_multiplier,
    table_reader,
)


def row_reader(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function (x, b, at, image, i, channel, t) that reads a lane's part of image row i.

    The part is operand B of the products of the first stage. A lane has one channel for each tile; these
    channels are neighbours, and channel is the first of them. t is lane % 4. Word h of the lane (see
    `half_fragments`) for a tile is stored in b[at + h * tiles + tile]. In place of a pixel or channel outside
    the image, the function reads one inside the image. This is harmless: the constant matrices have zeros for
    such pixels, and the results of such channels are not written.
    """
    C, H, W, TILES = planes.channels, planes.height, planes.width, planes.tiles
    SPAN, EACH = planes.span, planes.span // 2
    HELD, READ = 2 * step_count(W, SPAN), word_count(W, SPAN)
    load = reader(max(TILES // 2, 1) if planes.channels_last else EACH)

    def pixel(line, h, e, t):
        """Return the offset of pixel e (0 or 1) of a lane's word h in the row at `line`.

        For a pixel outside the row it is the offset of the row's last pixel. If the pixels of all lanes are
        inside, it is computed as a constant plus (line + 2 * t).
        """
        if 8 * h + 8 <= W:
            return (line + 2 * t) + (8 * h + e)
        return line + min(8 * h + e + 2 * t, W - 1)

    pixel = device(pixel)

    def channels_in_vectors(x, b, at, image, i, channel, t):
        line = (image * H + i) * W
        for h in range(READ):
            first = load(x, pixel(line, h, 0, t) * C + channel)
            second = load(x, pixel(line, h, 1, t) * C + channel)
            for n in range(TILES // 2):
                b[at + h * TILES + 2 * n] = low_halves(first[n], second[n])
                b[at + h * TILES + 2 * n + 1] = high_halves(first[n], second[n])

    def channels_one_by_one(x, b, at, image, i, channel, t):
        line = (image * H + i) * W
        for h in range(READ):
            first, second = x[pixel(line, h, 0, t) * C + channel], x[pixel(line, h, 1, t) * C + channel]
            b[at + h] = low_halves(uint32(first), uint32(second))

    def pixels_in_vectors(x, b, at, image, i, channel, t):
        for tile in range(TILES):
            line = ((image * C + channel + tile) * H + i) * W
            for n in range(READ // EACH):
                words = load(x, line + min(4 * SPAN * n + SPAN * t, W - SPAN))
                for k in range(EACH):
                    b[at + (EACH * n + k) * TILES + tile] = words[k]

    def pixels_one_by_one(x, b, at, image, i, channel, t):
        for tile in range(TILES):
            line = ((image * C + channel + tile) * H + i) * W
            for h in range(READ):
                first, second = x[pixel(line, h, 0, t)], x[pixel(line, h, 1, t)]
                b[at + h * TILES + tile] = low_halves(uint32(first), uint32(second))

    if planes.channels_last:
        read = device(channels_one_by_one if TILES == 1 else channels_in_vectors)
    else:
        read = device(pixels_one_by_one if planes.vector == 1 else pixels_in_vectors)

    def row(x, b, at, image, i, channel, t):
        read(x, b, at, image, i, channel, t)
        for n in range(READ * TILES, HELD * TILES):
            b[at + n] = 0

    return device(row)


def function(planes: HalfPlanes) -> Callable[..., None]:
    """Return the kernel's function; see `blconv.kernels.transforms.half.analysis`."""
    TILES, WARPS, CHUNKS = planes.tiles, planes.warps, planes.chunks
    transform_rows, transform_columns = first_stage(planes), second_stage(planes)

    def analyse(x, z, columns, rows, scale, images):
        T = cuda.shared.array(0, uint32)
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5 & WARPS - 1
        g, t = lane >> 2, lane & 3
        block = cuda.blockIdx.x & 0x7FFFFFFF
        image, first = block // CHUNKS, 8 * TILES * (block % CHUNKS)
        transform_rows(T, x, columns, image, first, warp, lane, g, t)
        transform_columns(T, z, rows, scale, images, image, first, warp, lane, g, t)

    return analyse


def first_stage(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function of the first stage: it transforms every pair of image rows of x.

    The result is T, in shared memory: the kept frequencies of each row.
    """
    C, H, KW, TILES, WARPS = planes.channels, planes.height, planes.kept_columns, planes.tiles, planes.warps
    PAIRS, PART = planes.pairs, 8 * TILES
    COLUMN = 2 * PART
    ROW = KW * COLUMN
    COLUMN_TILES, STEPS = -(-KW // 8), step_count(planes.width, planes.span)
    TABLE, LOADED, SUMS = 4 * COLUMN_TILES * STEPS, 2 * STEPS * TILES, 4 * TILES
    ROW_SUMS = 2 * SUMS
    AT_ONCE = max(1, min(WORDS_AHEAD // (2 * LOADED), -(-PAIRS // WARPS)))
    HELD = 2 * LOADED * AT_ONCE
    multiply, pack, put = table_multiplier(planes), packer(planes.memory), shared_writer(TILES)
    read_table, read_pixels = table_reader(TABLE // 4, 4), row_reader(planes)

    def transform_rows(T, x, columns, image, first, warp, lane, g, t):
        table = cuda.local.array(TABLE, uint32)
        read_table(table, columns, lane)
        b = cuda.local.array(HELD, uint32)
        c = cuda.local.array(ROW_SUMS, float32)
        words = cuda.local.array(TILES, uint32)
        channel = min(first + TILES * g, C - TILES)
        for top in range(warp, PAIRS, WARPS * AT_ONCE):
            for r in range(AT_ONCE):  # all reads before the first product: more bytes in flight
                i = 2 * min(top + r * WARPS, PAIRS - 1)
                read_pixels(x, b, 2 * r * LOADED, image, i, channel, t)
                read_pixels(x, b, (2 * r + 1) * LOADED, image, min(i + 1, H - 1), channel, t)
            for r in range(AT_ONCE):
                pair = top + r * WARPS
                for m in range(COLUMN_TILES):
                    for n in range(ROW_SUMS):
                        c[n] = 0
                    for s in range(STEPS):
                        for row in range(2):
                            for tile in range(TILES):
                                at = (2 * r + row) * LOADED + 2 * s * TILES + tile
                                a = 4 * (m * STEPS + s)
                                multiply(c, row * SUMS + 4 * tile, table, a, b[at], b[at + TILES])
                    v = 8 * m + g
                    if v < KW and pair < PAIRS:
                        for e in range(2):
                            at = pair * ROW + v * COLUMN + TILES * swizzle(2 * t + e, pair, v)
                            for part in range(2):
                                for tile in range(TILES):
                                    n = 4 * tile + 2 * part + e
                                    words[tile] = pack(c[n], c[SUMS + n])
                                put(T, at + part * PART, words)

    return device(transform_rows)


def second_stage(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function of the second stage: it transforms T along H and writes the result to z.

    T is the result of the first stage, in shared memory; H is the vertical axis of the images. The function
    begins with a barrier. It writes the kept coefficients to z.
    """
    C, TILES, WARPS = planes.channels, planes.tiles, planes.warps
    KH, KW, PARTS = planes.kept_rows, planes.kept_columns, planes.parts
    PAIRS, PART = planes.pairs, 8 * TILES
    COLUMN = 2 * PART
    ROW = KW * COLUMN
    ROW_TILES, STEPS = -(-KH // 8), step_count(planes.height, 2)
    TABLE, SUMS, WRITTEN = 4 * ROW_TILES * STEPS, 8 * TILES * ROW_TILES, 2 * TILES
    multiply, read_table = table_multiplier(planes), table_reader(TABLE // 4, 4)
    get, write = shared_reader(TILES), channel_writer(planes)

    def gather(numbers, d, i, j, sign, scale):
        """Fill `numbers` with results for column 2t of all tiles, then for column 2t + 1 of all tiles.

        d has the lane's sums. A result is scale * d[i + n] + sign * d[j + n], where n = 4 * tile for column
        2t and n = 4 * tile + 1 for column 2t + 1, with t = lane % 4.
        """
        for e in range(2):
            for tile in range(TILES):
                n = 4 * tile + e
                numbers[TILES * e + tile] = scale * d[i + n] + sign * d[j + n]

    gather = device(gather)

    def transform_columns(T, z, rows, scale, images, image, first, warp, lane, g, t):
        table = cuda.local.array(TABLE, uint32)
        read_table(table, rows, lane)
        cuda.syncthreads()
        d = cuda.local.array(SUMS, float32)
        numbers = cuda.local.array(WRITTEN, float32)
        channel = first + 2 * TILES * t
        for v in range(warp, KW, WARPS):
            for n in range(SUMS):
                d[n] = 0
            for s in range(STEPS):
                above, below = min(8 * s + t, PAIRS - 1), min(8 * s + 4 + t, PAIRS - 1)
                upper_at = above * ROW + v * COLUMN + TILES * swizzle(g, above, v)
                lower_at = below * ROW + v * COLUMN + TILES * swizzle(g, below, v)
                for part in range(2):
                    b0 = get(T, upper_at + part * PART)
                    b1 = get(T, lower_at + part * PART) if 8 * s + 4 < PAIRS else b0
                    for tile in range(TILES):
                        for m in range(ROW_TILES):
                            at = 4 * (TILES * (2 * m + part) + tile)
                            multiply(d, at, table, 4 * (m * STEPS + s), b0[tile], b1[tile])
            for m in range(ROW_TILES):
                u = 8 * m + g
                if u < KH:
                    q = u if v == 0 else KH + (v - 1) * (2 * KH - 1) + KH - 1 + u
                    re, im = 8 * TILES * m, 8 * TILES * m + 4 * TILES
                    # Z(u) = sum of (cos - i sin) * (re + i im): d[n] sums with cos, d[n + 2] with sin
                    at = (q * images + image) * (PARTS * C)
                    gather(numbers, d, re, im + 2, scale, scale)
                    write(z, at, channel, numbers)
                    if PARTS == 2:
                        gather(numbers, d, im, re + 2, -scale, scale)
                        write(z, at + C, channel, numbers)
                    if u > 0 and v > 0:
                        at -= 2 * u * images * (PARTS * C)
                        gather(numbers, d, re, im + 2, -scale, scale)
                        write(z, at, channel, numbers)
                        gather(numbers, d, im, re + 2, scale, scale)
                        write(z, at + C, channel, numbers)

    return device(transform_columns)
