"""The sizes of the transform kernels, and the device functions that both float32 kernels share.

A plane is one channel of one image. A CUDA block transforms 8 * `tiles` channels of one image; a tile is 8
columns of a matrix operand, and every column is a channel. In float32, column n of tile `tile` is channel
tiles * (4 * (n % 2) + n // 2) + tile of the block. A lane with t = lane % 4 holds columns 2t and 2t + 1 of
each tile. So its columns 2t of all tiles are neighbouring channels, which it writes as one vector, and so are
its columns 2t + 1. Four lanes write four neighbouring vectors, which fill whole sectors of memory.
`blconv.kernels` explains the terms.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blconv.kernels.limits import MAX_SHARED_BYTES
from blconv.kernels.primitives.products import Precision
from blconv.kernels.primitives.warp import device, loader, storer
from blconv.kernels.transforms.fragments import coefficient_count, part_count


@dataclass(frozen=True)
class Planes:
    """The sizes that a transform kernel is compiled for; the number of images is an argument of the kernel.

    A plane has height x width pixels, and `kept_rows` and `kept_columns` are the numbers of kept non-negative
    frequencies of its two axes. `channels_last` is the memory format of the images.
    """

    channels: int
    height: int
    width: int
    kept_rows: int
    kept_columns: int
    channels_last: bool

    @property
    def coefficient_count(self) -> int:
        """Q, the number of complex coefficients of a plane."""
        return coefficient_count(self.kept_rows, self.kept_columns)

    @property
    def parts(self) -> int:
        """Number of real numbers of a coefficient: 2, or 1 if the only coefficient is the (real) mean."""
        return part_count(self.coefficient_count)

    @property
    def tiles(self) -> int:
        """Number of tiles of 8 channels that a CUDA block transforms."""
        raise NotImplementedError

    @property
    def chunks(self) -> int:
        """Number of CUDA blocks that share the channels of an image."""
        return -(-self.channels // (8 * self.tiles))

    @property
    def warps(self) -> int:
        """Number of warps of a CUDA block; a warp transforms several image rows and reads them in advance."""
        return 4 if self.height >= 12 else 2 if self.height >= 6 else 1

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory that a CUDA block needs for T, the result of a transform's first stage."""
        return self._shared(self.tiles)

    def _shared(self, tiles: int) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class Float32Planes(Planes):
    """The sizes that a float32 transform is compiled for, and its precision on tensor cores.

    The `precision` is "tf32" (factors rounded to TF32) or "split" (factors as sums of two TF32 numbers, which
    has about the accuracy of float32).
    """

    precision: Precision

    @property
    def split(self) -> bool:
        """Whether factors are sums of two TF32 numbers."""
        return self.precision == "split"

    @property
    def vector(self) -> int:
        """Number of neighbouring pixels of an image row that a lane reads at once.

        It is 1 if channels are last, because then neighbouring numbers are of different channels.
        """
        if self.channels_last or self.width % 2:
            return 1
        return 4 if self.width % 4 == 0 and self.width > 8 else 2

    @property
    def tiles(self) -> int:
        """Number of tiles of 8 channels that a CUDA block transforms: 4 (not in full precision), 2 or 1.

        The number is the largest that divides the number of channels and for which shared memory suffices.
        """
        # In full precision the compiler cannot keep the sums of 32 channels in registers.
        for tiles in (2,) if self.split else (4, 2):
            if self.channels % tiles == 0 and self._shared(tiles) <= MAX_SHARED_BYTES:
                return tiles
        return 1

    @property
    def row_stride(self) -> int:
        """Distance, in elements, between successive image rows of T, the result of the first stage.

        It is 8 modulo 32, so that no two lanes of a warp use the same bank of shared memory.
        """
        return self._row_stride(self.tiles)

    @property
    def column_stride(self) -> int:
        """Distance, in elements, between successive kept frequencies of T, the result of the first stage."""
        return _column_stride(self.tiles)

    def _row_stride(self, tiles: int) -> int:
        dense = self.kept_columns * _column_stride(tiles)
        return dense + (8 - dense) % 32

    def _shared(self, tiles: int) -> int:
        return 4 * self.height * self._row_stride(tiles)


def _column_stride(tiles: int) -> int:
    return 16 * tiles + 8


def table_reader(vectors: int, width: int) -> Callable[..., None]:
    """Return the device function (table, source, lane) that reads a lane's part of a constant matrix.

    It reads `vectors` vectors of `width` (2 or 4) numbers from `source` into the local array `table`.
    """
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
    """Return the device function (out, at, d, i, j, sign) that writes a vector of channels to out[at].

    The vector has the number convert(d[i + 4 * tile] + sign * d[j + 4 * tile]) for each of the `tiles` tiles,
    whose channels are neighbours.
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
