"""The sizes of the 16-bit transform kernels, and the device functions that both kernels share.

As in `single`, a CUDA block transforms 8 * `tiles` channels of one image (`tiles` is 1, 2 or 4), and T, the
result of the first stage, lies in shared memory. In T and in registers, a word (32 bits) holds two 16-bit
numbers, neighbours on the axis over which the next product sums. A tile is 8 columns of a matrix operand, and
every column is a channel: column n of tile `tile` is channel tiles * n + tile of the block. So a lane reads
`tiles` neighbouring channels, and writes the 2 * `tiles` neighbouring channels of its two columns.

The words of T are stored as (..., 8 columns, tiles), and the tiles of a column are read and written at once.
`swizzle` permutes the columns so that the lanes of a warp use different banks of shared memory. So T needs no
gaps. `blconv.kernels` explains the terms.
"""

from collections.abc import Callable
from dataclasses import dataclass

from numba import cuda, float32, uint32

from blconv.kernels.primitives.warp import Memory, device
from blconv.kernels.primitives.words import multiplier, packer, reader, writer
from blconv.kernels.transforms.half_fragments import step_count
from blconv.kernels.transforms.planes import Planes

HALF_SHARED_BYTES = 74 * 1024  # of a block, at most, so that three blocks share a multiprocessor
WORDS_HELD = 64  # words of a pair of rows that a lane holds, at most
WORDS_AHEAD = 32  # words of pixels that a lane has in flight, at most, unless one pair of rows has more


@dataclass(frozen=True)
class HalfPlanes(Planes):
    """The sizes that a 16-bit transform is compiled for; `memory` is the type of the numbers."""

    memory: Memory

    @property
    def vector(self) -> int:
        """Number of neighbouring pixels of an image row that a lane reads at once.

        It is 1 if channels are last, because then neighbouring numbers are of different channels.
        """
        if self.channels_last or self.width % 2:
            return 1
        if self.width % 8 == 0 and self.width > 16:
            return 8
        return 4 if self.width % 4 == 0 and self.width > 8 else 2

    @property
    def span(self) -> int:
        """Number of neighbouring pixels that a lane holds: those of a vector, but at least 2, for a word."""
        return max(self.vector, 2)

    @property
    def tiles(self) -> int:
        """Number of tiles of 8 channels that a CUDA block transforms: 4, 2 or 1.

        It is the largest of these numbers for which shared memory and registers suffice, and of which the
        double divides the number of channels, so that channels are read in aligned vectors. If there is no
        such number, it is 1.
        """
        for tiles in (4, 2):
            held = 4 * step_count(self.width, self.span) * tiles <= WORDS_HELD
            if self.channels % (2 * tiles) == 0 and self._shared(tiles) <= HALF_SHARED_BYTES and held:
                return tiles
        return 1

    @property
    def pairs(self) -> int:
        """Number of pairs of neighbouring image rows."""
        return -(-self.height // 2)

    def _shared(self, tiles: int) -> int:
        return 4 * 16 * tiles * self.kept_columns * self.pairs


@device
def swizzle(column, above, beside):
    """Return the place of `column`, 0 to 7, in the shared-memory array T, to avoid bank conflicts.

    T is the result of the first stage of a kernel. It has two indices before that of the column: an image row
    or a pair of rows, and a frequency or an image column. `above` and `beside` are these two indices, in
    either order; they select the permutation of the columns.
    """
    return column ^ (2 * (above & 3)) ^ (beside & 1)


def table_multiplier(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function (c, at, table, a, b0, b1) that adds the product A B to c[at : at + 4].

    The lane's words of A are table[a : a + 4], and those of B are b0 and b1
    (`blconv.kernels.primitives.words`).
    """
    product = multiplier(planes.memory)

    def multiply(c, at, table, a, b0, b1):
        c[at], c[at + 1], c[at + 2], c[at + 3] = product(
            table[a], table[a + 1], table[a + 2], table[a + 3],
            b0, b1, c[at], c[at + 1], c[at + 2], c[at + 3],
        )  # fmt: skip

    return device(multiply)


def table_reader(vectors: int, width: int) -> Callable[..., None]:
    """Return the device function (table, source, lane) that reads a lane's part of a constant matrix.

    It reads `vectors` vectors of `width` words from `source` into the local array `table`.
    """
    load = reader(width)

    def read(table, source, lane):
        for n in range(vectors):
            words = load(source, width * (32 * n + lane))
            for k in range(width):
                table[width * n + k] = words[k]

    return device(read)


def channel_writer(planes: HalfPlanes) -> Callable[..., None]:
    """Return the device function (out, at, channel, numbers) that writes a lane's 2 * `tiles` numbers.

    The numbers are those of columns 2t and 2t + 1 in all tiles, with t = lane % 4. They are written to
    out[at + channel] and the places after it. Channels beyond the last one are not written.
    """
    C, TILES = planes.channels, planes.tiles
    pack, store = packer(planes.memory), writer(TILES)
    NOTHING = float32(0)

    def together(out, at, channel, numbers):
        if channel < C:
            words = cuda.local.array(TILES, uint32)
            for n in range(TILES):
                words[n] = pack(numbers[2 * n], numbers[2 * n + 1])
            store(out, at + channel, words)

    def one_by_one(out, at, channel, numbers):
        for e in range(2):
            if channel + e < C:
                out[at + channel + e] = pack(numbers[e], NOTHING) & 0xFFFF

    return device(together if C % (2 * TILES) == 0 else one_by_one)
