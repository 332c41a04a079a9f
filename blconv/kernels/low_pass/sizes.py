"""The sizes of the low-pass kernels, and their constant matrices in the order in which lanes read them."""

from dataclasses import astuple, dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.kernels.low_pass.half import HalfLowPassSizes, operand_a
from blconv.kernels.primitives.products import Precision
from blconv.kernels.primitives.warp import Memory
from blconv.kernels.transforms.fragments import LANE_ROW, LANE_STEP, position_order, round_table, step_count

LOW_PASS_READ_AHEAD = 64  # numbers that a lane has in flight, at most, unless one row or group has more
READ_BESIDE_TABLE = 40  # the same for a lane that also holds a constant matrix
TABLE_NUMBERS_HELD = 48  # numbers of a constant matrix that a lane holds, at most
GROUP_NUMBERS_HELD = 72  # numbers of a group that a lane holds, at most: a larger one is read in parts
LOW_PASS_SHARED_BYTES = 75 * 1024  # of a block, at most, so that three blocks share a multiprocessor
GROUP_COLUMNS = 48  # columns of the planes that a warp multiplies as one group, at most


@dataclass(frozen=True)
class LowPassSizes:
    """The sizes and types that a kernel is compiled for; the number of images is an argument of the kernel.

    A plane of height x width pixels becomes one of rows x columns pixels.
    """

    channels: int
    height: int
    width: int
    rows: int
    columns: int
    channels_last: bool
    memory: Memory
    precision: Precision

    @cached_property
    def halves(self) -> HalfLowPassSizes | None:
        """The sizes of the kernel for 16-bit numbers with channels last; None if another kernel is used."""
        if self.memory == "float32" or not self.channels_last:
            return None
        return HalfLowPassSizes(*astuple(self)[:-1])

    @property
    def split(self) -> bool:
        """Whether float32 factors are written as sums of two numbers that tensor cores read exactly."""
        return self.precision == "split"

    @cached_property
    def tiles(self) -> int:
        """Number of tiles of 8 channels that a CUDA block filters, for float32 with channels last: 4, 2 or 1.

        The number is the largest that divides the number of channels and for which shared memory suffices.
        """
        for tiles in (4, 2):
            if self.channels % tiles == 0 and self._shared(tiles) <= LOW_PASS_SHARED_BYTES:
                return tiles
        return 1

    @property
    def row_stride(self) -> int:
        """Distance, in elements, between successive image rows of T, for float32 with channels last.

        T is the result of the first stage. The distance is 8 or 24 modulo 32, so that no two lanes of a warp
        use the same bank of shared memory.
        """
        return _row_stride(self.columns, self.tiles)

    def _shared(self, tiles: int) -> int:
        return 4 * self.height * _row_stride(self.columns, tiles)

    @cached_property
    def group(self) -> tuple[int, int]:
        """The numbers of planes that a warp filters as one group, and of pixels that a lane reads at once.

        Pixels are last in memory. Reads of several neighbouring pixels are preferred, and then the pair of
        numbers for which the fewest lanes are idle. The planes of a group are of one image, so that a NaN
        does not spread to other images.
        """
        choices = []
        for planes in range(1, max(1, GROUP_COLUMNS // self.width) + 1):
            for vector in (1, 2, 4):
                if self.channels % planes == 0 and self.width % vector == 0:
                    lanes = 8 * -(-planes * self.width // (8 * vector))
                    busy = planes * self.width / (vector * lanes)
                    choices.append((vector > 1, busy, vector, planes))
        *_, vector, planes = max(choices)
        return planes, vector

    @property
    def store_vector(self) -> int:
        """Number of neighbouring pixels of a row that a lane writes at once, if pixels are last."""
        return 4 if self.columns % 4 == 0 and self.columns > 8 else 2 if self.columns % 2 == 0 else 1

    @cached_property
    def group_tiles(self) -> tuple[int, int]:
        """The numbers of tiles of 8 columns in which a group is read and is written, if pixels are last."""
        planes, vector = self.group
        read = vector * -(-planes * self.width // (8 * vector))
        return read, step_count(planes * self.columns, self.store_vector)

    @cached_property
    def warps(self) -> int:
        """Number of warps of a block."""
        if self.halves:
            return self.halves.warps
        if not self.channels_last:
            return 4
        return 4 if self.height >= 12 else 2 if self.height >= 6 else 1

    @cached_property
    def rereads(self) -> bool:
        """Whether a group of planes is read again for every 16 rows of the result, if pixels are last.

        This is the case in "split" precision, and if the group is too large for the registers.
        """
        return self.split or 2 * self.group_tiles[0] * -(-self.height // 8) > GROUP_NUMBERS_HELD

    @cached_property
    def groups(self) -> int:
        """Number of groups of planes that a warp reads before its first product, if pixels are last."""
        loaded = 2 * self.group_tiles[0] * -(-self.height // 8)
        return 1 if self.rereads else min(4, max(1, LOW_PASS_READ_AHEAD // loaded))

    def holds_table(self, fragments: int) -> bool:
        """Return whether a lane holds its numbers of a constant matrix in registers, if channels are last.

        These are `fragments` vectors of 4 numbers, or twice as many vectors in "split" precision.
        """
        return 4 * fragments * (1 + self.split) <= TABLE_NUMBERS_HELD

    def lines_at_once(self, items: int, loaded: int, holds: bool) -> int:
        """Return the number of lines (rows or columns) that a warp multiplies at once.

        The whole block has `items` lines, and a lane loads `loaded` numbers of each line. `holds` is the
        result of `holds_table`.
        """
        each = -(-items // self.warps)
        most = max(1, (READ_BESIDE_TABLE if holds else LOW_PASS_READ_AHEAD) // (1 + self.split) // loaded)
        return -(-each // -(-each // most))

    @cached_property
    def shared_bytes(self) -> int:
        """Bytes of shared memory of a CUDA block.

        Shared memory holds the result of the first stage or, if pixels are last, the constant matrix of the
        second stage.
        """
        if self.halves:
            return self.halves.shared_bytes
        if self.channels_last:
            return self._shared(self.tiles)
        read, written = self.group_tiles
        return 256 * read * written * (1 + self.split)

    def blocks(self, images: int) -> int:
        """Return the number of CUDA blocks in the grid."""
        if self.halves:
            return images * self.halves.chunks
        if self.channels_last:
            return images * -(-self.channels // (8 * self.tiles))
        return -(-images * self.channels // (self.group[0] * self.groups * self.warps))


def _row_stride(columns: int, tiles: int) -> int:
    dense = 8 * columns * tiles
    return dense + (8 - dense) % 16


def operands(sizes: LowPassSizes, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the constant matrices of stage 1 and of stage 2, in the order in which the lanes read them.

    The kernel computes R X S^T for every plane X (H, W). `rows` is R (rows, H) and `columns` is S
    (columns, W), both float64.
    """
    if sizes.halves:
        dtype = getattr(torch, sizes.memory)
        return operand_a(columns, dtype), operand_a(rows, dtype)
    if sizes.channels_last:
        first, second = _left(columns), _left(rows)
    else:
        first, second = _left(rows), _right(sizes, columns)
    first, second = round_table(first, split=sizes.split), round_table(second, split=sizes.split)
    return first.contiguous(), second.contiguous()


def _left(matrix: Tensor) -> Tensor:
    """Return a matrix as operand A of `mma`: (tiles of 16 rows, steps of 8 columns, 32 lanes, 4)."""
    rows, columns = matrix.shape
    padded = F.pad(matrix, (0, -columns % 8, 0, -rows % 16))
    row = 16 * torch.arange(-(-rows // 16))[:, None, None] + LANE_ROW  # (tiles, 1, 32)
    k = position_order(columns, 1)[:, LANE_STEP]  # (steps, 32, half)
    parts = [padded[row + below, k[None, :, :, half]] for half in (0, 1) for below in (0, 8)]
    return torch.stack(parts, -1)


def _right(sizes: LowPassSizes, matrix: Tensor) -> Tensor:
    """Return the constant matrix of stage 2 as operand B of `mma`: (tiles read, tiles written, 2, 32 lanes).

    `matrix` is S, the matrix of the columns. The result is block-diagonal, with S^T once for each plane of a
    group (the planes that a warp filters at once). Its rows have the order of the results of stage 1 (R X): a
    lane with t = lane % 4 holds columns 2t and 2t + 1 of each tile. The 2 in the shape are the two numbers
    that a lane holds of operand B.
    """
    (planes, vector), (read, written) = sizes.group, sizes.group_tiles
    group = torch.kron(torch.eye(planes, dtype=matrix.dtype), matrix.T.contiguous())
    padded = F.pad(group, (0, 8 * written - group.shape[1], 0, 8 * read - group.shape[0]))
    tile, half = torch.arange(read)[:, None, None, None], torch.arange(2)[:, None]
    k = 8 * vector * (tile // vector) + vector * (2 * LANE_STEP + half) + tile % vector
    tile = torch.arange(written)[:, None, None]
    column = 8 * tile + LANE_ROW
    if sizes.store_vector == 4:  # a pair of tiles gives a lane four neighbours, 2t and 2t + 1 of both
        column = 16 * (tile // 2) + 4 * (LANE_ROW // 2) + 2 * (tile % 2) + LANE_ROW % 2
    return padded[k, column]
