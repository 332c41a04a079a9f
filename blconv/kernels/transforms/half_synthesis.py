"""The function of the 16-bit synthesis kernel: from coefficients to pixels; see `half` and `half_planes`.

T, in shared memory, is the result of the first stage. A word of T (32 bits) has the real and the imaginary
part at a frequency v:

    T  (image rows, frequencies v, 8 columns, tiles)
"""

from collections.abc import Callable

from numba import cuda, float32, uint32

from blconv.kernels.primitives.warp import device
from blconv.kernels.primitives.words import (
    adder,
    high_halves,
    low_halves,
    multiplier,
    packer,
    reader,
    shared_reader,
    shared_writer,
    writer,
)
from blconv.kernels.transforms.half_fragments import word_count
from blconv.kernels.transforms.half_planes import (
    HalfPlanes,
    channel_writer,
    swizzle,
    table_multiplier,
    table_reader,
)

ONE = {"bfloat16": 0x3F803F80, "float16": 0x3C003C00}  # both numbers of a word
SIGNS = 0x80008000


def coefficient_reader(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function that reads the coefficients at (u, v) and (-u, v) for all u of a lane.

    For each word h of the lane (see `half_fragments`) and each tile, the function fills the local array
    b[(2 * h + part) * tiles + tile], which is operand B of the first stage. Let Z be the coefficient at
    (u, v) and N the one at (-u, v), or 0 if there is none. The words are (Re Z + Re N, Im N - Im Z) for part
    0, the real part of T, and (Im Z + Im N, Re Z - Re N) for part 1, the imaginary part. The first number of
    a word is multiplied by the cosine, the second by the sine.
    """
    C, KH, PARTS, TILES = planes.channels, planes.kept_rows, planes.parts, planes.tiles
    USED, HELD, PAIRS = -(-KH // 4), 2 * -(-KH // 8), max(TILES // 2, 1)
    KEPT, MINUS = uint32(ONE[planes.memory]), uint32(SIGNS)
    NOTHING = uint32(0)
    add, vector = adder(planes.memory), reader(PAIRS)

    def single(z, at):
        return (uint32(z[at]),)

    load = device(single) if TILES == 1 else vector

    def fill(b, at, cosine, sine, n):
        b[at + 2 * n] = low_halves(cosine, sine)
        if TILES > 1:
            b[at + 2 * n + 1] = high_halves(cosine, sine)

    fill = device(fill)

    def real(z, b, image, images, v, channel, t):
        words = load(z, image * C + channel)
        for n in range(PAIRS):
            fill(b, 0, words[n], NOTHING, n)
            fill(b, TILES, NOTHING, NOTHING, n)

    def both(z, b, image, images, v, channel, t):
        plane = images * (2 * C)
        for h in range(USED):
            u = min(4 * h + t, KH - 1)
            q, back, keep = KH + (v - 1) * (2 * KH - 1) + KH - 1 + u, 2 * u, KEPT
            if v == 0:
                q, back = u, 0
            if back == 0:  # no partner: read the same numbers times 0, so that all reads start at once
                keep = NOTHING
            at = q * plane + image * (2 * C) + channel
            re, im = load(z, at), load(z, at + C)
            at -= back * plane
            partner_re, partner_im = load(z, at), load(z, at + C)
            for n in range(PAIRS):
                at = 2 * h * TILES
                minus_im, minus = uint32(im[n] ^ MINUS), uint32(keep ^ MINUS)
                fill(b, at, add(keep, partner_re[n], re[n]), add(keep, partner_im[n], minus_im), n)
                at += TILES
                fill(b, at, add(keep, partner_im[n], im[n]), add(minus, partner_re[n], re[n]), n)

    read = device(real if PARTS == 1 else both)

    def column(z, b, image, images, v, channel, t):
        read(z, b, image, images, v, channel, t)
        for n in range(2 * USED * TILES, 2 * HELD * TILES):
            b[n] = 0

    return device(column)


def function(planes: HalfPlanes) -> Callable[..., None]:
    """Return the kernel's function; see `blconv.kernels.transforms.half.synthesis`."""
    TILES, WARPS, CHUNKS = planes.tiles, planes.warps, planes.chunks
    transform_columns = first_stage(planes)
    transform_rows = (second_stage_to_channels if planes.channels_last else second_stage_to_pixels)(planes)

    def synthesise(z, y, rows, columns, scale, images):
        T = cuda.shared.array(0, uint32)
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5 & WARPS - 1
        g, t = lane >> 2, lane & 3
        block = cuda.blockIdx.x & 0x7FFFFFFF
        image, first = block // CHUNKS, 8 * TILES * (block % CHUNKS)
        transform_columns(T, z, rows, scale, images, image, first, warp, lane, g, t)
        transform_rows(T, y, columns, image, first, warp, lane, g, t)

    return synthesise


def first_stage(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function of the first stage, which inverts the transform over vertical frequencies.

    It reads the coefficients z. The result is T, in shared memory: the kept horizontal frequencies v of each
    image row.
    """
    C, H, KW, TILES, WARPS = planes.channels, planes.height, planes.kept_columns, planes.tiles, planes.warps
    COLUMN, PART_SUMS, SUMS = 8 * TILES, 4 * TILES, 8 * TILES
    ROW = KW * COLUMN
    ROW_TILES, STEPS = -(-H // 16), -(-planes.kept_rows // 8)
    TABLE, HELD = 4 * ROW_TILES * STEPS, 4 * TILES * STEPS
    multiply, pack, put = table_multiplier(planes), packer(planes.memory), shared_writer(TILES)
    read_table, read_coefficients = table_reader(TABLE // 4, 4), coefficient_reader(planes)

    def transform_columns(T, z, rows, scale, images, image, first, warp, lane, g, t):
        table = cuda.local.array(TABLE, uint32)
        read_table(table, rows, lane)
        b = cuda.local.array(HELD, uint32)
        c = cuda.local.array(SUMS, float32)
        words = cuda.local.array(TILES, uint32)
        channel = min(first + TILES * g, C - TILES)
        for v in range(warp, KW, WARPS):
            read_coefficients(z, b, image, images, v, channel, t)
            for m in range(ROW_TILES):
                for n in range(SUMS):
                    c[n] = 0
                for s in range(STEPS):
                    for n in range(2 * TILES):
                        at = 4 * s * TILES + n
                        multiply(c, 4 * n, table, 4 * (m * STEPS + s), b[at], b[at + 2 * TILES])
                for below in range(2):
                    i = 16 * m + 8 * below + g
                    if i < H:
                        for e in range(2):
                            for tile in range(TILES):
                                n = 4 * tile + 2 * below + e
                                words[tile] = pack(scale * c[n], scale * c[PART_SUMS + n])
                            put(T, i * ROW + v * COLUMN + TILES * swizzle(2 * t + e, v, i), words)

    return device(transform_columns)


def second_stage_to_channels(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function of the second stage, for images whose channels are last.

    After a barrier, it transforms every row of T, the result of the first stage, to pixels and writes the
    pixels to y. In the matrix products, the constant matrix is operand A, and T is operand B, with one
    channel per column.
    """
    C, H, W, KW = planes.channels, planes.height, planes.width, planes.kept_columns
    TILES, WARPS = planes.tiles, planes.warps
    COLUMN = 8 * TILES
    ROW = KW * COLUMN
    COLUMN_TILES, STEPS = -(-W // 16), -(-KW // 8)
    TABLE, SUMS, WRITTEN = 4 * COLUMN_TILES * STEPS, 4 * TILES * COLUMN_TILES, 2 * TILES
    multiply, read_table = table_multiplier(planes), table_reader(TABLE // 4, 4)
    get, write = shared_reader(TILES), channel_writer(planes)

    def transform_rows(T, y, columns, image, first, warp, lane, g, t):
        table = cuda.local.array(TABLE, uint32)
        read_table(table, columns, lane)
        cuda.syncthreads()
        d = cuda.local.array(SUMS, float32)
        numbers = cuda.local.array(WRITTEN, float32)
        channel = first + 2 * TILES * t
        for i in range(warp, H, WARPS):
            for n in range(SUMS):
                d[n] = 0
            for s in range(STEPS):
                v, w = min(8 * s + t, KW - 1), min(8 * s + 4 + t, KW - 1)
                b0 = get(T, i * ROW + v * COLUMN + TILES * swizzle(g, v, i))
                b1 = get(T, i * ROW + w * COLUMN + TILES * swizzle(g, w, i)) if 8 * s + 4 < KW else b0
                for tile in range(TILES):
                    for m in range(COLUMN_TILES):
                        multiply(d, 4 * (TILES * m + tile), table, 4 * (m * STEPS + s), b0[tile], b1[tile])
            for m in range(COLUMN_TILES):
                for below in range(2):
                    j = 16 * m + 8 * below + g
                    if j < W:
                        for e in range(2):
                            for tile in range(TILES):
                                numbers[TILES * e + tile] = d[4 * (TILES * m + tile) + 2 * below + e]
                        write(y, ((image * H + i) * W + j) * C, channel, numbers)

    return device(transform_rows)


def second_stage_to_pixels(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function of the second stage, for images whose pixels are last.

    After a barrier, it transforms every row of T, the result of the first stage, to pixels and writes the
    pixels to y (batch, C, H, W). In the matrix products (mma), T is operand A, with one channel per row, and
    the constant matrix is operand B.
    """
    C, H, W, KW = planes.channels, planes.height, planes.width, planes.kept_columns
    TILES, WARPS, SPAN = planes.tiles, planes.warps, planes.span
    EACH, COLUMN = SPAN // 2, 8 * TILES
    ROW = KW * COLUMN
    COLUMN_TILES, STEPS = word_count(W, SPAN), -(-KW // 8)
    TABLE, SUMS, HELD = 2 * COLUMN_TILES * STEPS, 4 * COLUMN_TILES, 2 * STEPS * TILES
    OTHER = 1 if TILES > 1 else 0  # a block of 8 channels fills half of operand A: its rows are repeated
    product, pack = multiplier(planes.memory), packer(planes.memory)
    read_table, get, store = table_reader(TABLE // 2, 2), shared_reader(TILES), writer(EACH)
    NOTHING = float32(0)

    def write_vectors(y, line, d, n, t):
        words = cuda.local.array(EACH, uint32)
        for m in range(COLUMN_TILES // EACH):
            j = 4 * SPAN * m + SPAN * t
            if j < W:
                for k in range(EACH):
                    at = 4 * (EACH * m + k) + n
                    words[k] = pack(d[at], d[at + 1])
                store(y, line + j, words)

    def write_singly(y, line, d, n, t):
        for m in range(COLUMN_TILES):
            for e in range(2):
                j = 8 * m + 2 * t + e
                if j < W:
                    y[line + j] = pack(d[4 * m + n + e], NOTHING) & 0xFFFF

    write = device(write_singly if planes.vector == 1 else write_vectors)

    def transform_rows(T, y, columns, image, first, warp, lane, g, t):
        table = cuda.local.array(TABLE, uint32)
        read_table(table, columns, lane)
        cuda.syncthreads()
        a = cuda.local.array(HELD, uint32)
        d = cuda.local.array(SUMS, float32)
        for i in range(warp, H, WARPS):
            for h in range(2 * STEPS):
                v = min(4 * h + t, KW - 1)
                words = get(T, i * ROW + v * COLUMN + TILES * swizzle(g, v, i))
                for tile in range(TILES):
                    a[h * TILES + tile] = words[tile]
            for tile in range(0, TILES, 2):
                for n in range(SUMS):
                    d[n] = 0
                for s in range(STEPS):
                    at = 2 * s * TILES + tile
                    a0, a1, a2, a3 = a[at], a[at + OTHER], a[at + TILES], a[at + TILES + OTHER]
                    for m in range(COLUMN_TILES):
                        n, k = 4 * m, 2 * (m * STEPS + s)
                        d[n], d[n + 1], d[n + 2], d[n + 3] = product(
                            a0, a1, a2, a3, table[k], table[k + 1], d[n], d[n + 1], d[n + 2], d[n + 3]
                        )
                channel = first + TILES * g + tile
                if channel < C:
                    write(y, ((image * C + channel) * H + i) * W, d, 0, t)
                if OTHER > 0 and channel + 1 < C:
                    write(y, ((image * C + channel + 1) * H + i) * W, d, 2, t)

    return device(transform_rows)
