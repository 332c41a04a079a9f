"""The blocks of the 16-bit transforms, and the device functions that both kernels share.

As in `single`, a block owns one image and 8, 16 or 32 channels, and T lies in shared memory between two
stages. In T and in registers, a word has two numbers that are neighbours along the axis that the next product
contracts. Column n of tile `tile` is channel tiles * n + tile of the block: a lane reads `tiles`
neighbouring channels, and writes the 2 `tiles` channels of its two columns.

The words of T are stored as (..., 8 columns, tiles); the tiles of a column are read and written at once.
`swizzle` permutes columns so that the lanes, which differ in the column and in its pair of rows, access
different banks without padding.
"""

from collections.abc import Callable
from dataclasses import dataclass

from numba import cuda, float32, uint32

from blconv.kernels.primitives.warp import Memory, device
from blconv.kernels.primitives.words import multiplier, packer, reader, writer
from blconv.kernels.transforms.half_fragments import step_count
from blconv.kernels.transforms.planes import Planes

HALF_SHARED_BYTES = 74 * 1024  # of a block, at most, so that three share a multiprocessor
WORDS_HELD = 64  # words of a pair of rows that a lane holds, at most
WORDS_AHEAD = 32  # words of pixels that a lane has in flight, unless one pair of rows is more


@dataclass(frozen=True)
class HalfPlanes(Planes):
    """The sizes that a 16-bit transform's kernel is compiled for."""

    memory: Memory

    @property
    def vector(self) -> int:
        """Neighbouring pixels of a row that a lane reads in one vector; 1 where channels are neighbours."""
        if self.channels_last or self.width % 2:
            return 1
        if self.width % 8 == 0 and self.width > 16:
            return 8
        return 4 if self.width % 4 == 0 and self.width > 8 else 2

    @property
    def span(self) -> int:
        """Number of neighbouring pixels that a lane holds: those of a vector, or the two of a word."""
        return max(self.vector, 2)

    @property
    def tiles(self) -> int:
        """Tiles of 8 channels of a block: as many as are written in one vector and fit in memory."""
        for tiles in (4, 2):
            held = 4 * step_count(self.width, self.span) * tiles <= WORDS_HELD
            if self.channels % (2 * tiles) == 0 and self._shared(tiles) <= HALF_SHARED_BYTES and held:
                return tiles
        return 1

    @property
    def pairs(self) -> int:
        """Pairs of neighbouring rows."""
        return -(-self.height // 2)

    def _shared(self, tiles: int) -> int:
        return 4 * 16 * tiles * self.kept_columns * self.pairs


@device
def swizzle(column, above, beside):
    """Return the position of a column of T among the 8 with the same `above` and `beside`."""
    return column ^ (2 * (above & 3)) ^ (beside & 1)


def table_multiplier(planes: HalfPlanes) -> Callable[..., None]:
    """Return the procedure c[at : at + 4] += A B: A at `a` of a constant table, B two words."""
    product = multiplier(planes.memory)

    def multiply(c, at, table, a, b0, b1):
        c[at], c[at + 1], c[at + 2], c[at + 3] = product(
            table[a], table[a + 1], table[a + 2], table[a + 3],
            b0, b1, c[at], c[at + 1], c[at + 2], c[at + 3],
        )  # fmt: skip

    return device(multiply)


def table_reader(vectors: int, width: int) -> Callable[..., None]:
    """Return the procedure that fills a lane's local array with its `vectors` vectors of a constant table."""
    load = reader(width)

    def read(table, source, lane):
        for n in range(vectors):
            words = load(source, width * (32 * n + lane))
            for k in range(width):
                table[width * n + k] = words[k]

    return device(read)


def channel_writer(planes: HalfPlanes) -> Callable[..., None]:
    """Return the procedure that writes the 2 `tiles` numbers of columns 2t and 2t + 1 from `channel` on."""
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
