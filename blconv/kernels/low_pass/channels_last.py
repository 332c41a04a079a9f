"""The kernel of R X S^T for images whose channels are last: X is a plane, R and S are constant matrices.

A plane is one channel of one image. A CUDA block filters 8, 16 or 32 channels of one image. The first stage
sums over the columns of the image (the product with S^T) and leaves T (image row, column of the result,
channels) in shared memory. The second stage sums over the rows of the image (the product with R). In both
stages the constant matrix is operand A, and every column of operand B is a channel. So channels are read and
written in whole vectors. A block has `LowPassSizes.tiles` tiles of 8 columns of operand B. `blconv.kernels`
explains the terms.
"""

from collections.abc import Callable

from numba import cuda, float32

from blconv.kernels.low_pass.sizes import LowPassSizes
from blconv.kernels.primitives.products import multiplier, rounder
from blconv.kernels.primitives.warp import device, loader, store_pair, storer


def function(sizes: LowPassSizes) -> Callable[..., None]:
    """Return the kernel's function, with the parameters (x, y, S, R, number of images).

    Each plane Y of y is R X S^T, where X is the plane of x. The low-pass matrices R, of the rows, and S, of
    the columns, are stored in the order in which the tensor cores' instruction reads its left operand
    (`blconv.kernels.low_pass.sizes.operands`).
    """
    C, TILES, WARPS, CHUNKS = sizes.channels, sizes.tiles, sizes.warps, sizes.blocks(1)
    APART = TILES == 4
    multiply_rows, multiply_columns = _first_stage(sizes), _second_stage(sizes)

    def low_pass(x, y, columns, rows, images):
        T = cuda.shared.array(0, float32)
        # Masks show the compiler that nothing is negative: no index is then counted from an array's end.
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5 & WARPS - 1
        g, t = lane >> 2, lane & 3
        block = cuda.blockIdx.x & 0x7FFFFFFF
        image, first = block // CHUNKS, 8 * TILES * (block % CHUNKS)
        # Channel of column n of tile `tile`: TILES n + tile, so that a lane's columns 2t and 2t + 1 are one
        # vector; with 32 channels two vectors, each of them next to those of three other lanes.
        place = 4 * (g & 1) + (g >> 1) if APART else g
        channel = min(first + TILES * place, C - TILES)
        multiply_rows(T, x, columns, image, channel, warp, lane, g, t)
        multiply_columns(T, y, rows, image, first, warp, lane, g, t)

    return low_pass


def _first_stage(sizes: LowPassSizes) -> Callable[..., None]:
    """Return the device function of the first stage: T = X S^T for every plane X of the block.

    S is the constant matrix of the columns. X is read from x, and T is left in shared memory.
    """
    H, W, COLUMNS = sizes.height, sizes.width, sizes.columns
    TILES, WARPS, ROW, COLUMN = sizes.tiles, sizes.warps, sizes.row_stride, 8 * sizes.tiles
    COLUMN_TILES, STEPS = -(-COLUMNS // 16), -(-W // 8)
    LOADED, HOLDS = 2 * STEPS * TILES, sizes.holds_table(COLUMN_TILES * STEPS)
    AT_ONCE = sizes.lines_at_once(H, LOADED, HOLDS)
    HELD, SUMS = LOADED * AT_ONCE, 4 * TILES * AT_ONCE
    TABLE, fill_table, multiply = _table_product(sizes, COLUMN_TILES, STEPS, AT_ONCE, HOLDS)
    read, rounded, swizzle = _row_reader(sizes), rounder(not sizes.split), _tile_swizzle(TILES)

    def multiply_rows(T, x, columns, image, channel, warp, lane, g, t):
        table = cuda.local.array(TABLE, float32)
        fill_table(table, columns, lane)
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
                                at = i * ROW + j * COLUMN + 8 * swizzle(tile, j) + 2 * t
                                n = 4 * (r * TILES + tile) + 2 * below
                                store_pair(T, at, rounded(c[n]), rounded(c[n + 1]))

    return device(multiply_rows)


def _second_stage(sizes: LowPassSizes) -> Callable[..., None]:
    """Return the device function of the second stage: it writes R T to y.

    R is the constant matrix of the rows, and T is the result of the first stage, in shared memory. The
    function begins with a barrier.
    """
    C, H, ROWS, COLUMNS = sizes.channels, sizes.height, sizes.rows, sizes.columns
    TILES, WARPS, ROW, COLUMN = sizes.tiles, sizes.warps, sizes.row_stride, 8 * sizes.tiles
    ROW_TILES, STEPS = -(-ROWS // 16), -(-H // 8)
    LOADED, HOLDS = 2 * STEPS * TILES, sizes.holds_table(ROW_TILES * STEPS)
    AT_ONCE = sizes.lines_at_once(COLUMNS, LOADED, HOLDS)
    HELD, SUMS = LOADED * AT_ONCE, 4 * TILES * AT_ONCE
    TABLE, fill_table, multiply = _table_product(sizes, ROW_TILES, STEPS, AT_ONCE, HOLDS)
    write, swizzle = _channel_writer(sizes), _tile_swizzle(TILES)

    def row_offset(s, t):
        """Return the offset of row 4 * s + t of T, the first stage's result, but at most of its last row."""
        if 4 * s + 4 <= H:
            return t * ROW + 4 * s * ROW
        return min(4 * s + t, H - 1) * ROW

    row_offset = device(row_offset)

    def multiply_columns(T, y, rows, image, first, warp, lane, g, t):
        table = cuda.local.array(TABLE, float32)
        fill_table(table, rows, lane)
        cuda.syncthreads()
        e = cuda.local.array(HELD, float32)
        d = cuda.local.array(SUMS, float32)
        corner = (image * (ROWS * COLUMNS) + g * COLUMNS) * C
        for left in range(warp, COLUMNS, WARPS * AT_ONCE):
            for r in range(AT_ONCE):
                j = min(left + r * WARPS, COLUMNS - 1) & 0xFFFF
                for tile in range(TILES):
                    column = j * COLUMN + g + 8 * swizzle(tile, j)
                    for s in range(2 * STEPS):
                        e[r * LOADED + s * TILES + tile] = T[column + row_offset(s, t)]
            for m in range(ROW_TILES):
                multiply(d, table, rows, m, e, lane)
                for r in range(AT_ONCE):
                    j = left + r * WARPS
                    for below in range(2):
                        i = 16 * m + 8 * below
                        if i + g < ROWS and j < COLUMNS:
                            line = corner + j * C + i * (COLUMNS * C)
                            write(y, line, first, d, 4 * r * TILES + 2 * below, t)

    return device(multiply_columns)


def _tile_swizzle(tiles: int) -> Callable[..., int]:
    """Return the device function (tile, j) that returns the place of a tile within column j of T.

    T is the result of the first stage. The places are a permutation of the `tiles` tiles, chosen so that the
    lanes of a warp use different banks of shared memory.
    """
    SHIFT, MASK = (1 if tiles == 2 else 0), tiles - 1

    def swizzle(tile, j):
        return tile ^ ((j >> SHIFT) & MASK)

    return device(swizzle)


def _row_reader(sizes: LowPassSizes) -> Callable[..., None]:
    """Return the device function (x, b, at, line, channel, t) that reads a lane's pixels of an image row.

    t is lane % 4, and `line` is the index of the first pixel of the row. A lane has one channel for each
    tile; these channels are neighbours, and `channel` is the first of them. Pixel 4 * s + t for tile `tile`
    is stored in b[at + s * tiles + tile].
    """
    C, W, TILES = sizes.channels, sizes.width, sizes.tiles
    READS = 2 * -(-W // 8)
    load = loader("float32", TILES)

    def pixel(line, s, t):
        """Return the number of pixel 4 * s + t of the row whose first pixel is number `line`.

        If the row has no such pixel, return the number of its last pixel.
        """
        if 4 * s + 4 <= W:
            return (line + t) + 4 * s
        return line + min(4 * s + t, W - 1)

    pixel = device(pixel)

    def read_vectors(x, b, at, line, channel, t):
        for s in range(READS):
            values = load(x, pixel(line, s, t) * C + channel)
            for tile in range(TILES):
                b[at + s * TILES + tile] = values[tile]

    def read_singly(x, b, at, line, channel, t):
        for s in range(READS):
            b[at + s] = load(x, pixel(line, s, t) * C + channel)

    return device(read_singly if TILES == 1 else read_vectors)


def _table_product(
    sizes: LowPassSizes, table_tiles: int, steps: int, repeats: int, holds: bool
) -> tuple[int, Callable[..., None], Callable[..., None]]:
    """Return the length of a local array, and two device functions that multiply by a constant matrix A.

    A has `table_tiles` x `steps` fragments; a fragment is the part for one product of a warp, 16 rows and 8
    columns. The first function fills the local array. The second function computes c = A B for 16 rows of A,
    and for `repeats` * `sizes.tiles` tiles of 8 columns of B. With `holds`, the array holds all numbers of A
    that the lane needs. Otherwise it holds one fragment, and A is read again for every product.
    """
    FRAGMENTS, STEPS, TILES, REPEATS = table_tiles * steps, steps, sizes.tiles, repeats
    PARTS = 2 if sizes.split else 1
    HELD = FRAGMENTS if holds else 1
    multiply, load = multiplier(sizes.split), loader("float32", 4, again=True)

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

    def skip(table, source, lane):
        pass

    def product(c, table, source, m, b, lane):
        for n in range(4 * TILES * REPEATS):
            c[n] = 0
        for s in range(STEPS):
            n = m * STEPS + s if holds else 0
            if not holds:
                read(table, source, m * STEPS + s, 0, lane)
            for r in range(REPEATS):
                for tile in range(TILES):
                    at = 2 * TILES * (r * STEPS + s) + tile
                    multiply(c, 4 * (r * TILES + tile), table, 4 * n, 4 * HELD, b[at], b[at + TILES])

    return 4 * HELD * PARTS, device(fill if holds else skip), device(product)


def _channel_writer(sizes: LowPassSizes) -> Callable[..., None]:
    """Return the device function (y, line, first, d, n, t) that writes a lane's two columns of all tiles.

    The two numbers of each tile are d[n + 4 * tile] and d[n + 4 * tile + 1]. `line` is the offset of the
    pixel in y, `first` is the block's first channel, and t is lane % 4.
    """
    C, TILES = sizes.channels, sizes.tiles
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
