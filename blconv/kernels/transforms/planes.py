"""The blocks of the transforms, and the device functions that both float32 kernels share.

In float32, column n of tile `tile` is channel tiles * (4 * (n % 2) + n // 2) + tile of the block: a lane's
column 2t + e of all tiles is one vector, and four lanes write four neighbouring vectors, which are whole
sectors of memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blconv.kernels.limits import MAX_SHARED_BYTES
from blconv.kernels.primitives.products import Precision
from blconv.kernels.primitives.warp import device, loader, storer
from blconv.kernels.transforms.fragments import coefficient_count, part_count


@dataclass(frozen=True)
class Planes:
    """The sizes that a transform's kernel is compiled for: all but the number of images."""

    channels: int
    height: int
    width: int
    kept_rows: int
    kept_columns: int
    channels_last: bool

    @property
    def coefficient_count(self) -> int:
        """Q, the number of complex coefficients."""
        return coefficient_count(self.kept_rows, self.kept_columns)

    @property
    def parts(self) -> int:
        """2 for real and imaginary parts, or 1 where only the mean is kept, which is real."""
        return part_count(self.coefficient_count)

    @property
    def tiles(self) -> int:
        """Tiles of 8 channels of a block."""
        raise NotImplementedError

    @property
    def chunks(self) -> int:
        """Number of blocks that share an image."""
        return -(-self.channels // (8 * self.tiles))

    @property
    def warps(self) -> int:
        """Warps of a block: so few that each has at least as many rows as it reads in advance."""
        return 4 if self.height >= 12 else 2 if self.height >= 6 else 1

    @property
    def shared_bytes(self) -> int:
        """Bytes of T."""
        return self._shared(self.tiles)

    def _shared(self, tiles: int) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class Float32Planes(Planes):
    """The sizes and the precision that a float32 transform's kernel is compiled for."""

    precision: Precision

    @property
    def split(self) -> bool:
        """Whether numbers are multiplied as sums of two."""
        return self.precision == "split"

    @property
    def vector(self) -> int:
        """Neighbouring pixels of a row that a lane reads in one vector; 1 where channels are neighbours."""
        if self.channels_last or self.width % 2:
            return 1
        return 4 if self.width % 4 == 0 and self.width > 8 else 2

    @property
    def tiles(self) -> int:
        """Tiles of 8 channels of a block: as many as are read in one vector and fit in memory."""
        # In full precision the compiler cannot keep the sums of 32 channels in registers.
        for tiles in (2,) if self.split else (4, 2):
            if self.channels % tiles == 0 and self._shared(tiles) <= MAX_SHARED_BYTES:
                return tiles
        return 1

    @property
    def row_stride(self) -> int:
        """Stride of T between positions; 8 modulo 32, so that no two lanes share a bank."""
        return self._row_stride(self.tiles)

    @property
    def column_stride(self) -> int:
        """Stride of T between frequencies v."""
        return _column_stride(self.tiles)

    def _row_stride(self, tiles: int) -> int:
        dense = self.kept_columns * _column_stride(tiles)
        return dense + (8 - dense) % 32

    def _shared(self, tiles: int) -> int:
        return 4 * self.height * self._row_stride(tiles)


def _column_stride(tiles: int) -> int:
    return 16 * tiles + 8


def table_reader(vectors: int, width: int) -> Callable[..., None]:
    """Return the procedure that fills a lane's local array with its `vectors` vectors of a constant table."""
    load = loader("float32", width)

    def fours(table, source, lane):
        for n in range(vectors):
            table[4 * n], table[4 * n + 1], table[4 * n + 2], table[4 * n + 3] = load(
                source, 4 * (32 * n + lane)
            )

    def pairs(table, source, lane):
        for n in range(vectors):
            table[2 * n], table[2 * n + 1] = load(source, 2 * (32 * n + lane))

    return device(fours if width == 4 else pairs)


def channel_writer(tiles: int, convert: Callable[..., float]) -> Callable[..., None]:
    """Return the procedure that writes d[i + 4 tile] + sign d[j + 4 tile] of all tiles.

    The tiles are neighbouring channels.
    """
    store = storer("float32", tiles)

    def write4(out, at, d, i, j, sign):
        store(
            out, at,
            (
                convert(d[i] + sign * d[j]), convert(d[i + 4] + sign * d[j + 4]),
                convert(d[i + 8] + sign * d[j + 8]), convert(d[i + 12] + sign * d[j + 12]),
            ),
        )  # fmt: skip

    def write2(out, at, d, i, j, sign):
        store(out, at, (convert(d[i] + sign * d[j]), convert(d[i + 4] + sign * d[j + 4])))

    def write1(out, at, d, i, j, sign):
        store(out, at, convert(d[i] + sign * d[j]))

    return device({1: write1, 2: write2, 4: write4}[tiles])
