"""R x S^T where channels are last: the matrices multiply columns that are channels.

A block owns one image and 8, 16 or 32 channels. Its first stage contracts j and leaves T (i, column,
channels) in shared memory, its second one contracts i, so whole vectors of channels are read and written.
"""

from collections.abc import Callable

from numba import cuda, float32

from blconv.kernels.low_pass.sizes import LowPassSizes
from blconv.kernels.primitives.products import multiplier, rounder
from blconv.kernels.primitives.warp import device, loader, store_pair, storer


def function(maps: LowPassSizes) -> Callable[..., None]:
    """The kernel (x, y, S as operand A, R as operand A, images)."""
    C, H, W, ROWS, COLUMNS = maps.channels, maps.height, maps.width, maps.rows, maps.columns
    TILES, WARPS, ROW = maps.tiles, maps.warps, maps.row_stride
    CHUNKS, COLUMN = maps.blocks(1), 8 * TILES
    COLUMN_TILES, COLUMN_STEPS = -(-COLUMNS // 16), -(-W // 8)
    ROW_TILES, ROW_STEPS = -(-ROWS // 16), -(-H // 8)
    LOADED, LOADED_LAST = 2 * COLUMN_STEPS * TILES, 2 * ROW_STEPS * TILES
    HOLDS, HOLDS_LAST = maps.holds_table(COLUMN_TILES * COLUMN_STEPS), maps.holds_table(ROW_TILES * ROW_STEPS)
    AT_ONCE, LAST_AT_ONCE = (
        maps.lines_at_once(H, LOADED, HOLDS),
        maps.lines_at_once(COLUMNS, LOADED_LAST, HOLDS_LAST),
    )
    HELD, SUMS = LOADED * AT_ONCE, 4 * TILES * AT_ONCE
    LAST_HELD, LAST_SUMS = LOADED_LAST * LAST_AT_ONCE, 4 * TILES * LAST_AT_ONCE
    # Channel of column n of tile `tile`: TILES n + tile, so that a lane's columns 2t and 2t + 1 are one
    # vector; with 32 channels two vectors, each of them next to those of three other lanes.
    APART = TILES == 4
    # A tile's place in T depends on its column, so that no two lanes share a bank.
    SHIFT, MASK = (1 if TILES == 2 else 0), TILES - 1

    rounded = rounder(not maps.split)
    COLUMN_TABLE, fill_columns, multiply = _product(maps, COLUMN_TILES, COLUMN_STEPS, AT_ONCE, HOLDS)
    ROW_TABLE, fill_rows, multiply_last = _product(maps, ROW_TILES, ROW_STEPS, LAST_AT_ONCE, HOLDS_LAST)
    load, write = loader("float32", TILES), _channel_writer(maps)

    def pixel(line, s, t):
        """The pixel 4 s + t of a line, or its last: a constant after line + t where all are inside."""
        if 4 * s + 4 <= W:
            return (line + t) + 4 * s
        return line + min(4 * s + t, W - 1)

    pixel = device(pixel)

    def above(s, t):
        """Where T's row 4 s + t begins, or its last."""
        if 4 * s + 4 <= H:
            return t * ROW + 4 * s * ROW
        return min(4 * s + t, H - 1) * ROW

    above = device(above)

    def read_vectors(x, b, at, line, channel, t):
        for s in range(2 * COLUMN_STEPS):
            values = load(x, pixel(line, s, t) * C + channel)
            for tile in range(TILES):
                b[at + s * TILES + tile] = values[tile]

    def read_singly(x, b, at, line, channel, t):
        for s in range(2 * COLUMN_STEPS):
            b[at + s] = load(x, pixel(line, s, t) * C + channel)

    read = device(read_singly if TILES == 1 else read_vectors)

    def low_pass(x, y, columns, rows, images):
        T = cuda.shared.array(0, float32)
        # Masks tell the compiler what is not negative: no index is then counted from an array's end.
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5 & WARPS - 1
        g, t = lane >> 2, lane & 3
        block = cuda.blockIdx.x & 0x7FFFFFFF
        image, first = block // CHUNKS, 8 * TILES * (block % CHUNKS)
        place = 4 * (g & 1) + (g >> 1) if APART else g
        channel = min(first + TILES * place, C - TILES)

        table = cuda.local.array(COLUMN_TABLE, float32)
        fill_columns(table, columns, lane)
        b = cuda.local.array(HELD, float32)
        c = cuda.local.array(SUMS, float32)
        for top in range(warp, H, WARPS * AT_ONCE):
            for r in range(AT_ONCE):  # all reads before the first product: more bytes in flight
                read(x, b, r * LOADED, (image * H + min(top + r * WARPS, H - 1)) * W, channel, t)
            for n in range(HELD):
                b[n] = rounded(b[n])
            for m in range(COLUMN_TILES):
                multiply(c, table, columns, m, b, lane)
                for r in range(AT_ONCE):
                    i = top + r * WARPS
                    for below in range(2):
                        j = 16 * m + 8 * below + g
                        if j < COLUMNS and i < H:
                            for tile in range(TILES):
                                at = i * ROW + j * COLUMN + 8 * (tile ^ ((j >> SHIFT) & MASK)) + 2 * t
                                n = 4 * (r * TILES + tile) + 2 * below
                                store_pair(T, at, rounded(c[n]), rounded(c[n + 1]))

        row_table = cuda.local.array(ROW_TABLE, float32)
        fill_rows(row_table, rows, lane)
        cuda.syncthreads()
        e = cuda.local.array(LAST_HELD, float32)
        d = cuda.local.array(LAST_SUMS, float32)
        corner = (image * (ROWS * COLUMNS) + g * COLUMNS) * C
        for left in range(warp, COLUMNS, WARPS * LAST_AT_ONCE):
            for r in range(LAST_AT_ONCE):
                j = min(left + r * WARPS, COLUMNS - 1) & 0xFFFF
                for tile in range(TILES):
                    column = j * COLUMN + g + 8 * (tile ^ ((j >> SHIFT) & MASK))
                    for s in range(2 * ROW_STEPS):
                        e[r * LOADED_LAST + s * TILES + tile] = T[column + above(s, t)]
            for m in range(ROW_TILES):
                multiply_last(d, row_table, rows, m, e, lane)
                for r in range(LAST_AT_ONCE):
                    j = left + r * WARPS
                    for below in range(2):
                        i = 16 * m + 8 * below
                        if i + g < ROWS and j < COLUMNS:
                            line = corner + j * C + i * (COLUMNS * C)
                            write(y, line, first, d, 4 * r * TILES + 2 * below, t)

    return low_pass


def _product(
    maps: LowPassSizes, table_tiles: int, steps: int, several: int, holds: bool
) -> tuple[int, Callable[..., None], Callable[..., None]]:
    """How many numbers a lane holds of a constant matrix A, the procedure that reads them, and the one of
    c = A B: 16 rows of A, B `several` times `tiles` tiles of 8 columns.

    A matrix too large to be held is read for every product.
    """
    FRAGMENTS, STEPS, TILES, SEVERAL = table_tiles * steps, steps, maps.tiles, several
    PARTS = 2 if maps.split else 1
    HELD = FRAGMENTS if holds else 1
    multiply, load = multiplier(maps.split), loader("float32", 4, again=True)

    def read(table, source, n, at, lane):
        for part in range(PARTS):
            k = 4 * (part * HELD + at)
            table[k], table[k + 1], table[k + 2], table[k + 3] = load(
                source, 4 * (32 * (part * FRAGMENTS + n) + lane)
            )

    read = device(read)

    def fill(table, source, lane):
        for n in range(FRAGMENTS):
            read(table, source, n, n, lane)

    def later(table, source, lane):
        pass

    def product(c, table, source, m, b, lane):
        for n in range(4 * TILES * SEVERAL):
            c[n] = 0
        for s in range(STEPS):
            n = m * STEPS + s if holds else 0
            if not holds:
                read(table, source, m * STEPS + s, 0, lane)
            for r in range(SEVERAL):
                for tile in range(TILES):
                    at = 2 * TILES * (r * STEPS + s) + tile
                    multiply(c, 4 * (r * TILES + tile), table, 4 * n, 4 * HELD, b[at], b[at + TILES])

    return 4 * HELD * PARTS, device(fill if holds else later), device(product)


def _channel_writer(maps: LowPassSizes) -> Callable[..., None]:
    """The procedure that writes a lane's two columns of all tiles, d[n + 4 tile] and d[n + 4 tile + 1]."""
    C, TILES = maps.channels, maps.tiles
    store, store_both = storer("float32", TILES), storer("float32", min(2 * TILES, 4))

    def write4(y, line, first, d, n, t):
        for e in range(2):
            channel = first + 4 * (4 * e + t)
            if channel < C:
                store(y, line + channel, (d[n + e], d[n + e + 4], d[n + e + 8], d[n + e + 12]))

    def write2(y, line, first, d, n, t):
        channel = first + 4 * t
        if channel < C:
            store_both(y, line + channel, (d[n], d[n + 4], d[n + 1], d[n + 5]))

    def write2_apart(y, line, first, d, n, t):
        for e in range(2):
            channel = first + 4 * t + 2 * e
            if channel < C:
                store(y, line + channel, (d[n + e], d[n + e + 4]))

    def write1(y, line, first, d, n, t):
        channel = first + 2 * t
        if channel < C:
            store_both(y, line + channel, (d[n], d[n + 1]))

    def write1_apart(y, line, first, d, n, t):
        for e in range(2):
            channel = first + 2 * t + e
            if channel < C:
                store(y, line + channel, d[n + e])

    if C % (2 * TILES) and TILES < 4:
        return device(write2_apart if TILES == 2 else write1_apart)
    return device({1: write1, 2: write2, 4: write4}[TILES])
