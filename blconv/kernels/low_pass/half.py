"""The kernel of R X S^T for 16-bit numbers, channels last: X is a plane, R and S are constant matrices.

Factors are 16-bit numbers, and sums are float32. A CUDA block filters 8, 16 or 32 channels of one image, as
in `transforms.half_planes`. The first stage multiplies pairs of neighbouring image rows by S^T and leaves T
in shared memory. The second stage multiplies the columns of T by R. A word of T (32 bits) holds two numbers,
one of image row 2 * p and one of image row 2 * p + 1, where p is the index of the pair of rows:

    T  (pairs of rows, columns of y, 8 columns of the operand, tiles)

Device memory is read once and written once; if a block has 32 channels, in vectors of 4 channels and of 8
channels. Three blocks of 32 channels with 32 x 32 pixels fit on a multiprocessor at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from numba import cuda, float32, uint32
from torch import Tensor

from blconv.kernels.limits import MAX_SHARED_BYTES
from blconv.kernels.primitives.warp import device
from blconv.kernels.primitives.words import multiplier, packer, reader, shared_reader, shared_writer
from blconv.kernels.transforms.half_analysis import row_reader
from blconv.kernels.transforms.half_fragments import step_count
from blconv.kernels.transforms.half_planes import (
    HALF_SHARED_BYTES,
    WORDS_AHEAD,
    HalfPlanes,
    channel_writer,
    swizzle,
)

# Of a block, at most, by its tiles: three blocks share a multiprocessor, or two.
SHARED_BYTES_BY_TILES = {4: HALF_SHARED_BYTES, 2: MAX_SHARED_BYTES}
LOW_PASS_WORDS_HELD = 96  # words of a pair of rows that a lane holds, at most
TABLE_WORDS_HELD = 32  # words of a constant matrix that a lane holds; a larger one is read for each product


@dataclass(frozen=True)
class HalfLowPassSizes(HalfPlanes):
    """The sizes that the kernel is compiled for; the result's planes have kept_rows x kept_columns pixels."""

    @property
    def tiles(self) -> int:
        """Number of tiles of 8 channels that a CUDA block filters: 4, 2 or 1.

        It is the largest of these numbers for which shared memory and registers suffice, and of which the
        double divides the number of channels, so that channels are read in aligned vectors. If there is no
        such number, it is 1.
        """
        for tiles, shared in SHARED_BYTES_BY_TILES.items():
            held = 4 * step_count(self.width, 2) * tiles <= LOW_PASS_WORDS_HELD
            if self.channels % (2 * tiles) == 0 and self._shared(tiles) <= shared and held:
                return tiles
        return 1

    def _shared(self, tiles: int) -> int:
        return 4 * 8 * tiles * self.kept_columns * self.pairs


def operand_a(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a matrix (rows, k) as operand A of 16-bit products: int32 words (tiles, steps, 32 lanes, 4).

    A tile has 16 rows and a step 16 values of k. A word holds two numbers of `dtype`; see
    `blconv.kernels.primitives.words`.
    """
    rows, k = matrix.shape
    padded = F.pad(matrix, (0, -k % 16, 0, -rows % 16)).to(dtype)
    parts = padded.view(-(-rows // 16), 2, 8, -(-k // 16), 2, 4, 2)  # (.., below, g, .., half, t, pair)
    tiles, steps = parts.shape[0], parts.shape[3]
    return parts.permute(0, 3, 2, 5, 4, 1, 6).reshape(tiles, steps, 32, 8).view(torch.int32)


def function(sizes: HalfLowPassSizes) -> Callable[..., None]:
    """Return the kernel's function, with the parameters (x, y, S, R, number of images).

    Each plane of y is R X S^T, where X is the plane of x. S and R are in the order of operand A
    (`operand_a`).
    """
    TILES, WARPS, CHUNKS = sizes.tiles, sizes.warps, sizes.chunks
    multiply_rows, multiply_columns = _first_stage(sizes), _second_stage(sizes)

    def low_pass(x, y, columns, rows, images):
        T = cuda.shared.array(0, uint32)
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5 & WARPS - 1
        g, t = lane >> 2, lane & 3
        block = cuda.blockIdx.x & 0x7FFFFFFF
        image, first = block // CHUNKS, 8 * TILES * (block % CHUNKS)
        multiply_rows(T, x, columns, image, first, warp, lane, g, t)
        multiply_columns(T, y, rows, image, first, warp, lane, g, t)

    return low_pass


def _first_stage(sizes: HalfLowPassSizes) -> Callable[..., None]:
    """Return the device function of the first stage: T = X S^T for every plane X of the block.

    S is the constant matrix of the columns. X is read from x in pairs of rows, and T is left in shared
    memory.
    """
    C, H, COLUMNS = sizes.channels, sizes.height, sizes.kept_columns
    TILES, WARPS, PAIRS = sizes.tiles, sizes.warps, sizes.pairs
    COLUMN = 8 * TILES
    ROW = COLUMNS * COLUMN
    COLUMN_TILES, STEPS = -(-COLUMNS // 16), step_count(sizes.width, 2)
    LOADED, SUMS = 2 * STEPS * TILES, 4 * TILES
    PAIR_SUMS = 2 * SUMS
    AT_ONCE = max(1, min(WORDS_AHEAD // (2 * LOADED), -(-PAIRS // WARPS)))
    HELD = 2 * LOADED * AT_ONCE
    TABLE, fill_table, multiply = _table_product(sizes, COLUMN_TILES * STEPS, 2)
    read, pack, put = row_reader(sizes), packer(sizes.memory), shared_writer(TILES)

    def multiply_rows(T, x, columns, image, first, warp, lane, g, t):
        table = cuda.local.array(TABLE, uint32)
        fill_table(table, columns, lane)
        b = cuda.local.array(HELD, uint32)
        c = cuda.local.array(PAIR_SUMS, float32)
        words = cuda.local.array(TILES, uint32)
        channel = min(first + TILES * g, C - TILES)
        for top in range(warp, PAIRS, WARPS * AT_ONCE):
            for r in range(AT_ONCE):  # all reads before the first product: more bytes in flight
                i = 2 * min(top + r * WARPS, PAIRS - 1)
                read(x, b, 2 * r * LOADED, image, i, channel, t)
                read(x, b, (2 * r + 1) * LOADED, image, min(i + 1, H - 1), channel, t)
            for r in range(AT_ONCE):
                pair = top + r * WARPS
                for m in range(COLUMN_TILES):
                    for n in range(PAIR_SUMS):
                        c[n] = 0
                    for s in range(STEPS):
                        at = 2 * (r * LOADED + s * TILES)
                        multiply(c, table, columns, m * STEPS + s, lane, b, at, LOADED)
                    for below in range(2):
                        j = 16 * m + 8 * below + g
                        if j < COLUMNS and pair < PAIRS:
                            for e in range(2):
                                for tile in range(TILES):
                                    n = 4 * tile + 2 * below + e
                                    words[tile] = pack(c[n], c[SUMS + n])
                                put(T, pair * ROW + j * COLUMN + TILES * swizzle(2 * t + e, pair, j), words)

    return device(multiply_rows)


def _second_stage(sizes: HalfLowPassSizes) -> Callable[..., None]:
    """Return the device function of the second stage: it writes R T to y.

    R is the constant matrix of the rows, and T is the result of the first stage, in shared memory. The
    function begins with a barrier.
    """
    C, ROWS, COLUMNS = sizes.channels, sizes.kept_rows, sizes.kept_columns
    TILES, WARPS, PAIRS = sizes.tiles, sizes.warps, sizes.pairs
    COLUMN = 8 * TILES
    ROW = COLUMNS * COLUMN
    ROW_TILES, STEPS = -(-ROWS // 16), step_count(sizes.height, 2)
    LOADED, SUMS, WRITTEN = 2 * STEPS * TILES, 4 * TILES, 2 * TILES
    TABLE, fill_table, multiply = _table_product(sizes, ROW_TILES * STEPS, 1)
    get, write = shared_reader(TILES), channel_writer(sizes)

    def multiply_columns(T, y, rows, image, first, warp, lane, g, t):
        table = cuda.local.array(TABLE, uint32)
        fill_table(table, rows, lane)
        cuda.syncthreads()
        v = cuda.local.array(LOADED, uint32)
        d = cuda.local.array(SUMS, float32)
        numbers = cuda.local.array(WRITTEN, float32)
        channel = first + 2 * TILES * t
        for j in range(warp, COLUMNS, WARPS):
            for h in range(2 * STEPS):
                pair = min(4 * h + t, PAIRS - 1)
                found = get(T, pair * ROW + j * COLUMN + TILES * swizzle(g, pair, j))
                for tile in range(TILES):
                    v[h * TILES + tile] = found[tile]
            line = image * (ROWS * COLUMNS) + g * COLUMNS + j
            for m in range(ROW_TILES):
                for n in range(SUMS):
                    d[n] = 0
                for s in range(STEPS):
                    multiply(d, table, rows, m * STEPS + s, lane, v, 2 * s * TILES, 0)
                for below in range(2):
                    i = 16 * m + 8 * below
                    if i + g < ROWS:
                        for e in range(2):
                            for tile in range(TILES):
                                numbers[TILES * e + tile] = d[4 * tile + 2 * below + e]
                        write(y, (line + i * COLUMNS) * C, channel, numbers)

    return device(multiply_columns)


def _table_product(
    sizes: HalfLowPassSizes, fragments: int, repeats: int
) -> tuple[int, Callable[..., None], Callable[..., None]]:
    """Return the length of a local array, and two device functions that multiply by a constant matrix A.

    A has `fragments` fragments; a fragment is the part for one product of a warp. The first function fills
    the local array. The second function adds A B to c for one fragment of A, and for `repeats` *
    `sizes.tiles` tiles of B. Its argument `apart` is the distance, in words, between the repeats in the array
    b. If A is too large for the local array, its fragments are read again for every product.
    """
    TILES, REPEATS, HELD = sizes.tiles, repeats, fragments if 4 * fragments <= TABLE_WORDS_HELD else 0
    product, load = multiplier(sizes.memory), reader(4, again=True)

    def fill(table, source, lane):
        for n in range(HELD):
            at = 4 * n
            table[at], table[at + 1], table[at + 2], table[at + 3] = load(source, 4 * (32 * n + lane))

    def held_fragment(table, source, n, lane):
        return table[4 * n], table[4 * n + 1], table[4 * n + 2], table[4 * n + 3]

    def read_fragment(table, source, n, lane):
        return load(source, 4 * (32 * n + lane))

    fragment = device(held_fragment if HELD else read_fragment)

    def multiply(c, table, source, n, lane, b, at, apart):
        a0, a1, a2, a3 = fragment(table, source, n, lane)
        for r in range(REPEATS):
            for tile in range(TILES):
                k, to = at + r * apart + tile, 4 * (r * TILES + tile)
                c[to], c[to + 1], c[to + 2], c[to + 3] = product(
                    a0, a1, a2, a3, b[k], b[k + TILES], c[to], c[to + 1], c[to + 2], c[to + 3]
                )

    return max(4 * HELD, 1), device(fill), device(multiply)
