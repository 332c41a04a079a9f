"""Analysis (pixels to kept coefficients) and synthesis (back): separable, both stages on tensor cores.

Layouts, for images of C channels and H x W pixels of which kh and kw frequencies are kept:

    x  (images, C, H, W) or (images, H, W, C)
    z  (Q, images, 2, C)   real and imaginary parts; the operand of one product per frequency q

    q = u for v = 0 and u = 0 .. kh - 1 (the other half is conjugate), then, for v = 1 .. kw - 1,
    u = -(kh - 1) .. kh - 1. Where the mean is all that is kept, z is (1, images, 1, C).

A block owns one image and 8, 16 or 32 channels. Its first stage leaves T (positions along one axis,
v, 2, channels) in shared memory, its second one contracts the other axis: both multiply a constant
matrix by columns that are channels, so that coefficients are read and written as whole vectors of
channels whatever the layout of the images is. Column n of tile `tile` is channel
tiles * (4 * (n % 2) + n // 2) + tile of the block: a lane's column 2t + e of all tiles is one vector, and
four lanes write four neighbouring ones, whole sectors of memory. Device memory is read once and written
once, H W + 2 Q numbers a plane.

"split" precision multiplies numbers as sums of two that the tensor cores read exactly: three products
for one, and float32's accuracy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from numba import cuda, float32
from torch import Tensor

from blconv.kernels.fragments import (
    AxisWaves,
    coefficients,
    from_pixels,
    on_device,
    parts_of,
    steps_of,
    to_pixels,
    to_pixels_right,
)
from blconv.kernels.kernel import Kernel
from blconv.kernels.warp import device, loader, mma, store_pair, storer, tf32

Precision = Literal["tf32", "split"]
Memory = Literal["float32", "bfloat16", "float16"]

_device = device
READ_AT_ONCE = 64  # numbers that a lane has in flight, at most
SHARED_BYTES = 112 * 1024  # of a block, at most, so that two share a multiprocessor


@dataclass(frozen=True)
class Planes:
    """What a transform's kernel is compiled for: everything but the number of images."""

    channels: int
    height: int
    width: int
    kept_rows: int
    kept_columns: int
    channels_last: bool
    memory: Memory
    precision: Precision

    @property
    def coefficients(self) -> int:
        """Q, the number of complex coefficients."""
        return coefficients(self.kept_rows, self.kept_columns)

    @property
    def parts(self) -> int:
        """Real and imaginary, or real alone where only the mean is kept."""
        return parts_of(self.coefficients)

    @property
    def vector(self) -> int:
        """Neighbouring pixels of a row that a lane reads at once; 1 where channels are neighbours."""
        if self.channels_last or self.width % 2:
            return 1
        return 4 if self.width % 4 == 0 and self.width > 8 else 2

    @property
    def tiles(self) -> int:
        """Tiles of 8 channels that a block owns: as many as are read at once and fit."""
        # The sums of 32 channels in full precision are more than the compiler keeps in registers.
        for tiles in (2,) if self.precision == "split" else (4, 2):
            if self.channels % tiles == 0 and self._shared(tiles) <= SHARED_BYTES:
                return tiles
        return 1

    @property
    def warps(self) -> int:
        """Warps of a block: few, for all to have as many rows as are read ahead."""
        return 4 if self.height >= 12 else 2 if self.height >= 6 else 1

    @property
    def row_stride(self) -> int:
        """Numbers of T between positions; 8 modulo 32: no two lanes share a bank."""
        dense = self.kept_columns * self.column_stride
        return dense + (8 - dense) % 32

    @property
    def column_stride(self) -> int:
        """Numbers of T between frequencies v."""
        return _column_stride(self.tiles)

    def _shared(self, tiles: int) -> int:
        dense = self.kept_columns * _column_stride(tiles)
        return 4 * self.height * (dense + (8 - dense) % 32)

    @property
    def shared_bytes(self) -> int:
        """Bytes of T."""
        return self._shared(self.tiles)

    @property
    def chunks(self) -> int:
        """Blocks that share an image."""
        return -(-self.channels // (8 * self.tiles))


def _column_stride(tiles: int) -> int:
    return 16 * tiles + 8


@lru_cache(maxsize=256)
def analysis(planes: Planes) -> Kernel:
    """The kernel (x, z, columns, rows, images): tables `from` of the columns (-sin) and the rows (+sin)."""
    signature = (_pointer(planes), _pointer(planes), "float32*", "float32*", "int64")
    return Kernel(_analysis(planes), signature, 32 * planes.warps, planes.shared_bytes, planes)


@lru_cache(maxsize=256)
def synthesis(planes: Planes) -> Kernel:
    """The kernel (z, y, rows, columns, images): table `to` of the rows (+sin), then `to` of the columns
    (-sin) where channels are last, and `right` where they are not.
    """
    signature = (_pointer(planes), _pointer(planes), "float32*", "float32*", "int64")
    return Kernel(_synthesis(planes), signature, 32 * planes.warps, planes.shared_bytes, planes)


def analysis_tables(
    planes: Planes, rows: AxisWaves, columns: AxisWaves, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The constants of an analysis: tables of the columns and the rows."""
    split = planes.precision == "split"
    return (
        on_device(device, from_pixels, columns, -1, planes.vector, split),
        on_device(device, from_pixels, rows, 1, 1, split),
    )


def synthesis_tables(
    planes: Planes, rows: AxisWaves, columns: AxisWaves, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The constants of a synthesis: tables of the rows and the columns."""
    split = planes.precision == "split"
    if planes.channels_last:
        last = on_device(device, to_pixels, columns, -1, split)
    else:
        last = on_device(device, to_pixels_right, columns, -1, planes.vector, split)
    return on_device(device, to_pixels, rows, 1, split), last


def _pointer(planes: Planes) -> str:
    return "float32*" if planes.memory == "float32" else "uint16*"


def _multiplier(split: bool) -> Callable[..., None]:
    """The procedure c[at : at + 4] += A B: A at `a` of a table (its low half at a + low), B two numbers."""

    def once(c, at, table, a, low, b0, b1):
        c[at], c[at + 1], c[at + 2], c[at + 3] = mma(
            table[a], table[a + 1], table[a + 2], table[a + 3],
            b0, b1, c[at], c[at + 1], c[at + 2], c[at + 3],
        )  # fmt: skip

    def thrice(c, at, table, a, low, b0, b1):
        h0, h1 = tf32(b0), tf32(b1)
        once(c, at, table, a, low, tf32(b0 - h0), tf32(b1 - h1))
        once(c, at, table, low + a, low, h0, h1)
        once(c, at, table, a, low, h0, h1)

    once = device(once)
    return device(thrice) if split else once


def _rounder(rounds: bool) -> Callable[..., float]:
    """How a number is prepared for the tensor cores; the 16-bit formats are exact as they are read."""

    def rounded(x):
        return tf32(x)

    def same(x):
        return x

    return device(rounded if rounds else same)


def _table_reader(fragments: int) -> Callable[..., None]:
    """The procedure that fills a lane's local array with its `fragments` vectors of 4 of a constant table."""
    load = loader("float32", 4)

    def read(table, source, lane):
        for n in range(fragments):
            table[4 * n], table[4 * n + 1], table[4 * n + 2], table[4 * n + 3] = load(
                source, 4 * (32 * n + lane)
            )

    return device(read)


def _row_reader(planes: Planes, enter: Callable[..., float]) -> Callable[..., None]:
    """The procedure that fills b[at + (2 s + half) tiles + tile] with row i of an image, as operand B.

    What lies past the last pixel or channel is read again from inside: the constant matrices have
    zeros there, and channels beyond the last are not written.
    """
    C, H, W, TILES = planes.channels, planes.height, planes.width, planes.tiles
    STEPS = steps_of(W, planes.vector)
    load = loader(planes.memory, TILES if planes.channels_last else planes.vector)

    def channels_in_vectors(x, b, at, image, i, channel, t):
        line = (image * H + i) * W
        for s in range(2 * STEPS):
            values = load(x, (line + min(4 * s + t, W - 1)) * C + channel)
            for tile in range(TILES):
                b[at + s * TILES + tile] = enter(values[tile])

    def channels_one_by_one(x, b, at, image, i, channel, t):
        line = (image * H + i) * W
        for s in range(2 * STEPS):
            b[at + s] = enter(load(x, (line + min(4 * s + t, W - 1)) * C + channel))

    def pixels_in_fours(x, b, at, image, i, channel, t):
        for tile in range(TILES):
            line = ((image * C + channel + tile) * H + i) * W
            for s in range(STEPS // 2):
                values = load(x, line + min(16 * s + 4 * t, W - 4))
                for n in range(4):
                    b[at + (4 * s + n) * TILES + tile] = enter(values[n])

    def pixels_in_pairs(x, b, at, image, i, channel, t):
        for tile in range(TILES):
            line = ((image * C + channel + tile) * H + i) * W
            for s in range(STEPS):
                values = load(x, line + min(8 * s + 2 * t, W - 2))
                b[at + 2 * s * TILES + tile] = enter(values[0])
                b[at + (2 * s + 1) * TILES + tile] = enter(values[1])

    def pixels_one_by_one(x, b, at, image, i, channel, t):
        for tile in range(TILES):
            line = ((image * C + channel + tile) * H + i) * W
            for s in range(2 * STEPS):
                b[at + s * TILES + tile] = enter(load(x, line + min(4 * s + t, W - 1)))

    if planes.channels_last:
        return device(channels_one_by_one if TILES == 1 else channels_in_vectors)
    return device({1: pixels_one_by_one, 2: pixels_in_pairs, 4: pixels_in_fours}[planes.vector])


def _writer(tiles: int, memory: Memory, leave: Callable[..., float]) -> Callable[..., None]:
    """The procedure that writes d[i + 4 tile] + sign d[j + 4 tile] of all tiles: neighbouring channels."""
    store = storer(memory, tiles)

    def write4(out, at, d, i, j, sign):
        store(
            out, at,
            (
                leave(d[i] + sign * d[j]), leave(d[i + 4] + sign * d[j + 4]),
                leave(d[i + 8] + sign * d[j + 8]), leave(d[i + 12] + sign * d[j + 12]),
            ),
        )  # fmt: skip

    def write2(out, at, d, i, j, sign):
        store(out, at, (leave(d[i] + sign * d[j]), leave(d[i + 4] + sign * d[j + 4])))

    def write1(out, at, d, i, j, sign):
        store(out, at, leave(d[i] + sign * d[j]))

    return device({1: write1, 2: write2, 4: write4}[tiles])


def _analysis(planes: Planes) -> Callable[..., None]:
    C, H, W = planes.channels, planes.height, planes.width
    KH, KW, PARTS = planes.kept_rows, planes.kept_columns, planes.parts
    TILES, WARPS, CHUNKS = planes.tiles, planes.warps, planes.chunks
    ROW, COLUMN, PART = planes.row_stride, planes.column_stride, 8 * TILES
    SPLIT = planes.precision == "split"
    COLUMN_TILES, COLUMN_STEPS = -(-KW // 8), steps_of(W, planes.vector)
    ROW_TILES, ROW_STEPS = -(-KH // 8), steps_of(H, 1)
    COLUMN_TABLE, ROW_TABLE = 4 * COLUMN_TILES * COLUMN_STEPS, 4 * ROW_TILES * ROW_STEPS
    COLUMN_HELD, ROW_HELD = COLUMN_TABLE * (1 + SPLIT), ROW_TABLE * (1 + SPLIT)
    LOADED, SUMS, PLANE_SUMS = 2 * COLUMN_STEPS * TILES, 4 * TILES, 8 * TILES * ROW_TILES
    AT_ONCE = max(1, min(READ_AT_ONCE // LOADED, -(-H // WARPS)))
    HELD = LOADED * AT_ONCE
    PLUS, MINUS = float32(1), float32(-1)

    rounds = not SPLIT and planes.memory == "float32"
    multiply, between = _multiplier(SPLIT), _rounder(not SPLIT)
    read_columns, read_rows = _table_reader(COLUMN_HELD // 4), _table_reader(ROW_HELD // 4)
    enter = leave = _rounder(rounds)
    read_pixels, write = _row_reader(planes, enter), _writer(TILES, planes.memory, leave)

    def analyse(x, z, columns, rows, images):
        T = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
        g, t = lane >> 2, lane & 3
        image, first = cuda.blockIdx.x // CHUNKS, 8 * TILES * (cuda.blockIdx.x % CHUNKS)

        table = cuda.local.array(COLUMN_HELD, float32)
        read_columns(table, columns, lane)
        b = cuda.local.array(HELD, float32)
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
                    for s in range(COLUMN_STEPS):
                        for tile in range(TILES):
                            at = r * LOADED + 2 * s * TILES + tile
                            multiply(
                                c, 4 * tile, table, 4 * (m * COLUMN_STEPS + s), COLUMN_TABLE,
                                b[at], b[at + TILES],
                            )  # fmt: skip
                    v = 8 * m + g
                    if v < KW and i < H:
                        for tile in range(TILES):
                            at = i * ROW + v * COLUMN + 8 * tile + 2 * t
                            store_pair(T, at, between(c[4 * tile]), between(c[4 * tile + 1]))
                            store_pair(T, at + PART, between(c[4 * tile + 2]), between(c[4 * tile + 3]))
        cuda.syncthreads()

        row_table = cuda.local.array(ROW_HELD, float32)
        read_rows(row_table, rows, lane)
        step, own = images * (PARTS * C), image * (PARTS * C) + first + TILES * t
        eight = 8 * step
        d = cuda.local.array(PLANE_SUMS, float32)
        for v in range(warp, KW, WARPS):
            for n in range(PLANE_SUMS):
                d[n] = 0
            for s in range(ROW_STEPS):
                upper = min(8 * s + t, H - 1) * ROW + v * COLUMN + g
                lower = min(8 * s + t + 4, H - 1) * ROW + v * COLUMN + g
                for column in range(2 * TILES):  # the tiles of the real parts, then of the imaginary ones
                    b0, b1 = T[upper + 8 * column], T[lower + 8 * column]
                    for m in range(ROW_TILES):
                        multiply(
                            d, 4 * (2 * TILES * m + column), row_table, 4 * (m * ROW_STEPS + s), ROW_TABLE,
                            b0, b1,
                        )  # fmt: skip
            # Where Z(u) and Z(-u) go, by steps from one frequency to the next: few products of long numbers.
            centre = 0 if v == 0 else KH + (v - 1) * (2 * KH - 1) + KH - 1
            plus, minus = (centre + g) * step + own, (centre - g) * step + own
            for m in range(ROW_TILES):
                u = 8 * m + g
                if u < KH:
                    re, im = 8 * TILES * m, 8 * TILES * m + 4 * TILES
                    for e in range(2):  # columns 2t and 2t + 1 of every tile
                        if first + TILES * t + 4 * TILES * e < C:
                            # Z(u) = sum (cos - i sin)(re + i im): d has the sums of cos, 2 on those of sin
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

    return analyse


def _coefficient_reader(planes: Planes) -> Callable[..., None]:
    """The procedure that fills e[4 tile ...] with a coefficient's sums and differences over +-u.

    A tile's four numbers are Re(+) + Re(-), Im(+) - Im(-), Im(+) + Im(-), Re(+) - Re(-): operand B of the
    real part is the first and minus the second, of the imaginary part the others.
    """
    C, KH, PARTS, TILES = planes.channels, planes.kept_rows, planes.parts, planes.tiles
    load = loader(planes.memory, TILES)

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
        if back == 0:  # no partner: the same numbers again, times 0, so that all reads start at once
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


def _synthesis(planes: Planes) -> Callable[..., None]:
    C, H = planes.channels, planes.height
    KH, KW = planes.kept_rows, planes.kept_columns
    TILES, WARPS, CHUNKS = planes.tiles, planes.warps, planes.chunks
    ROW, COLUMN, PART = planes.row_stride, planes.column_stride, 8 * TILES
    SPLIT = planes.precision == "split"
    ROW_TILES, ROW_STEPS = -(-H // 16), -(-KH // 4)
    ROW_TABLE = 4 * ROW_TILES * ROW_STEPS
    ROW_HELD = ROW_TABLE * (1 + SPLIT)
    SUMS, TERMS = 8 * TILES * ROW_TILES, 4 * TILES

    multiply, between = _multiplier(SPLIT), _rounder(not SPLIT)
    read_rows = _table_reader(ROW_HELD // 4)
    read_coefficients = _coefficient_reader(planes)
    finish, last_held, last_sums = (_last_rows if planes.channels_last else _rows)(planes)

    def synthesise(z, y, rows, columns, images):
        T = cuda.shared.array(0, float32)
        lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
        g, t = lane >> 2, lane & 3
        image, first = cuda.blockIdx.x // CHUNKS, 8 * TILES * (cuda.blockIdx.x % CHUNKS)

        table = cuda.local.array(ROW_HELD, float32)
        read_rows(table, rows, lane)
        e = cuda.local.array(TERMS, float32)
        c = cuda.local.array(SUMS, float32)
        channel = min(first + TILES * (4 * (g & 1) + (g >> 1)), C - TILES)
        for v in range(warp, KW, WARPS):
            for n in range(SUMS):
                c[n] = 0
            for s in range(ROW_STEPS):
                read_coefficients(z, e, image, images, min(4 * s + t, KH - 1), v, channel)
                for tile in range(TILES):
                    b0, b1 = between(e[4 * tile]), between(-e[4 * tile + 1])
                    b2, b3 = between(e[4 * tile + 2]), between(e[4 * tile + 3])
                    for m in range(ROW_TILES):
                        at, a = 4 * (2 * TILES * m + tile), 4 * (m * ROW_STEPS + s)
                        multiply(c, at, table, a, ROW_TABLE, b0, b1)
                        multiply(c, at + 4 * TILES, table, a, ROW_TABLE, b2, b3)
            for m in range(ROW_TILES):
                for below in range(2):
                    i = 16 * m + 8 * below + g
                    if i < H:
                        for tile in range(TILES):
                            at = i * ROW + v * COLUMN + 8 * tile + 2 * t
                            re = 4 * (2 * TILES * m + tile) + 2 * below
                            im = re + 4 * TILES
                            store_pair(T, at, between(c[re]), between(c[re + 1]))
                            store_pair(T, at + PART, between(c[im]), between(c[im + 1]))
        cuda.syncthreads()

        column_table = cuda.local.array(last_held, float32)
        d = cuda.local.array(last_sums, float32)
        finish(T, y, columns, column_table, d, image, first, warp, lane)

    return synthesise


def _last_rows(planes: Planes) -> tuple[Callable[..., None], int, int]:
    """The second stage of the synthesis where channels are last: the constant matrix is operand A."""
    C, H, W, KW = planes.channels, planes.height, planes.width, planes.kept_columns
    TILES, WARPS = planes.tiles, planes.warps
    ROW, COLUMN, PART = planes.row_stride, planes.column_stride, 8 * TILES
    SPLIT = planes.precision == "split"
    COLUMN_TILES, STEPS = -(-W // 16), -(-KW // 4)
    TABLE = 4 * COLUMN_TILES * STEPS
    HELD, SUMS, NOTHING = TABLE * (1 + SPLIT), 4 * TILES * COLUMN_TILES, float32(0)
    multiply, read_table = _multiplier(SPLIT), _table_reader(HELD // 4)
    write = _writer(TILES, planes.memory, _rounder(False))

    def finish(T, y, columns, table, d, image, first, warp, lane):
        g, t = lane >> 2, lane & 3
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

    return device(finish), HELD, SUMS


def _rows(planes: Planes) -> tuple[Callable[..., None], int, int]:
    """The second stage of the synthesis where pixels are last: operand A is T, its rows are channels."""
    C, H, W, KW = planes.channels, planes.height, planes.width, planes.kept_columns
    TILES, WARPS, VECTOR = planes.tiles, planes.warps, planes.vector
    ROW, COLUMN, PART = planes.row_stride, planes.column_stride, 8 * TILES
    SPLIT = planes.precision == "split"
    COLUMN_TILES, STEPS = steps_of(W, VECTOR), -(-KW // 4)
    TABLE = 2 * COLUMN_TILES * STEPS
    HELD, SUMS = TABLE * (1 + SPLIT), 4 * COLUMN_TILES
    PAIR = 8 if TILES > 1 else 0  # a block of 8 channels fills half of operand A: its rows stand twice
    load = loader("float32", 2)
    store = storer(planes.memory, VECTOR)

    def once(d, at, a0, a1, a2, a3, b0, b1):
        d[at], d[at + 1], d[at + 2], d[at + 3] = mma(
            a0, a1, a2, a3, b0, b1, d[at], d[at + 1], d[at + 2], d[at + 3]
        )

    once = device(once)

    def plain(d, at, a0, a1, a2, a3, table, b):
        once(d, at, a0, a1, a2, a3, table[b], table[b + 1])

    def thrice(d, at, a0, a1, a2, a3, table, b):
        h0, h1, h2, h3 = tf32(a0), tf32(a1), tf32(a2), tf32(a3)
        once(d, at, tf32(a0 - h0), tf32(a1 - h1), tf32(a2 - h2), tf32(a3 - h3), table[b], table[b + 1])
        once(d, at, h0, h1, h2, h3, table[TABLE + b], table[TABLE + b + 1])
        once(d, at, h0, h1, h2, h3, table[b], table[b + 1])

    multiply = device(thrice if SPLIT else plain)

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

    def finish(T, y, columns, table, d, image, first, warp, lane):
        g, t = lane >> 2, lane & 3
        for n in range(HELD // 2):
            table[2 * n], table[2 * n + 1] = load(columns, 2 * (32 * n + lane))
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

    return device(finish), HELD, SUMS
