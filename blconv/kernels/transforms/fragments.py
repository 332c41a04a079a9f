"""The constant matrices of the float32 transforms, in the order in which the lanes of a warp read them.

The entries are cos and sin of 2 pi f * position / size, for the kept frequencies f of an axis, divided by
sqrt(size), so that a transform followed by its inverse has the factor 1. A matrix is an operand of `mma` in
`blconv.kernels.primitives.warp`, which defines the operands A and B, the numbers g and t of a lane, and the
index k of the sums. A matrix is stored as (tiles, steps, 32 lanes, numbers of a lane). A tile is 16 rows of
operand A or 8 columns of operand B, and a step is 8 values of k. So a lane reads its numbers for one `mma` as
one vector.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from blconv import constants
from blconv.geometry import TransformAxis

LANE_ROW = torch.arange(32) // 4  # g
LANE_STEP = torch.arange(32) % 4  # t


def waves(axis: TransformAxis) -> tuple[Tensor, Tensor]:
    """Return cos and sin of 2 pi f * position / size, over sqrt(size): float64, each (kept, positions).

    f are the kept frequencies 0 .. kept - 1 of the axis.
    """
    position = axis.start + axis.step * torch.arange(axis.positions)
    phase = torch.arange(axis.kept)[:, None] * position[None, :] % axis.size
    angle = phase.double() * (2 * math.pi / axis.size)
    return angle.cos() / math.sqrt(axis.size), angle.sin() / math.sqrt(axis.size)


def coefficient_count(kept_rows: int, kept_columns: int) -> int:
    """Return Q, the number of complex coefficients that the kernels use for one channel of one image.

    Of each pair of conjugates only one is counted.
    """
    return kept_rows + (kept_columns - 1) * (2 * kept_rows - 1)


def part_count(count: int) -> int:
    """Return the number of real numbers of a coefficient: 2, or 1 if the only coefficient is the (real) mean.

    `count` is the number of coefficients of a channel.
    """
    return 1 if count == 1 else 2


def step_count(positions: int, vector: int) -> int:
    """Return the number of steps, of 8 positions each, that cover an axis with `positions` positions.

    `vector` is the number of neighbouring positions, 1, 2 or 4, that a lane reads at once. With 4, the number
    of steps is even.
    """
    return 2 * -(-positions // 16) if vector == 4 else -(-positions // 8)


def position_order(positions: int, vector: int) -> Tensor:
    """Return the position that the lanes with t = lane % 4 multiply at each k, int64 (steps, t, half).

    k is the index that a matrix product sums over: half 0 is k = t, and half 1 is k = t + 4. The positions
    may be summed in any order. This order is chosen so that a lane multiplies the numbers that it has read
    itself, in vectors of `vector` neighbours.
    """
    s, t, half = torch.meshgrid(
        torch.arange(step_count(positions, vector)), torch.arange(4), torch.arange(2), indexing="ij"
    )
    if vector == 4:
        return 16 * (s // 2) + 4 * t + 2 * (s % 2) + half
    return 8 * s + 2 * t + half if vector == 2 else 8 * s + t + 4 * half


def from_pixels(axis: TransformAxis, sign: int, vector: int, split: bool) -> Tensor:
    """Return the matrix that transforms positions to frequencies, as operand A: (tiles, steps, 32 lanes, 4).

    With g = lane // 4, row g of tile m has the cosines of frequency 8 * m + g, and row g + 8 has its sines
    times `sign`. The positions are in the order of `position_order`. The numbers are those of `round_table`.
    """
    cosine, sine = waves(axis)
    tiles = -(-axis.kept // 8)
    k = position_order(axis.positions, vector)  # (steps, t, half)
    rows = 8 * torch.arange(tiles)[:, None] + LANE_ROW[None, :]  # (tiles, 32)
    where = rows[:, None, :, None], k[:, LANE_STEP][None]  # against (1, steps, 32, half)
    even, odd = pick(cosine, *where), pick(sign * sine, *where)
    return round_table(torch.stack([even[..., 0], odd[..., 0], even[..., 1], odd[..., 1]], -1), split=split)


def to_pixels(axis: TransformAxis, sign: int, split: bool) -> Tensor:
    """Return the matrix that transforms frequencies to positions, as operand A: (tiles, steps, 32 lanes, 4).

    With g = lane // 4 and t = lane % 4, rows g and g + 8 of tile m are the positions 16 * m + g and
    16 * m + g + 8. Column t of step s has the cosines of frequency 4 * s + t, and column t + 4 has its sines
    times `sign`. The numbers are those of `round_table`.
    """
    cosine, sine = (wave.T for wave in waves(axis))
    tiles, steps = -(-axis.positions // 16), -(-axis.kept // 4)
    rows = 16 * torch.arange(tiles)[:, None, None] + LANE_ROW  # (tiles, 1, 32)
    k = 4 * torch.arange(steps)[:, None] + LANE_STEP  # (steps, 32)
    parts = [
        pick(wave, rows + below, k.expand(tiles, -1, -1))
        for wave in (cosine, sign * sine)
        for below in (0, 8)
    ]
    return round_table(torch.stack(parts, -1), split=split)


def to_pixels_right(axis: TransformAxis, sign: int, vector: int, split: bool) -> Tensor:
    """Return the matrix of `to_pixels` transposed, as operand B: (tiles, steps, 32 lanes, 2).

    Its columns are positions, in ascending order if `vector` is 1 or 2. If `vector` is 4, a lane with
    t = lane % 4 writes four neighbouring positions at once; these are columns 2t and 2t + 1 of two successive
    tiles. The numbers are those of `round_table`.
    """
    cosine, sine = waves(axis)
    tiles, steps = step_count(axis.positions, vector), -(-axis.kept // 4)
    tile, column = torch.arange(tiles)[:, None], LANE_ROW[None, :]
    position = 8 * tile + column
    if vector == 4:
        position = 16 * (tile // 2) + 4 * (column // 2) + 2 * (tile % 2) + column % 2
    k = 4 * torch.arange(steps)[:, None] + LANE_STEP
    parts = [
        pick(wave, k.expand(tiles, -1, -1), position[:, None, :].expand(-1, steps, -1))
        for wave in (cosine, sign * sine)
    ]
    return round_table(torch.stack(parts, -1), split=split)


def pick(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return matrix[rows, columns], but 0 for indices beyond the last row or column.

    `rows` and `columns` are broadcast against each other.
    """
    rows, columns = torch.broadcast_tensors(rows, columns)
    inside = (rows < matrix.shape[0]) & (columns < matrix.shape[1])
    picked = matrix[rows.clamp(max=matrix.shape[0] - 1), columns.clamp(max=matrix.shape[1] - 1)]
    return torch.where(inside, picked, 0.0)


def round_table(matrix: Tensor, *, split: bool) -> Tensor:
    """Return a float64 matrix as float32 numbers that tensor cores read exactly, with 10 bits of mantissa.

    With `split`, return (2, ...): the rounded numbers, and the rounded remainders, whose sum is the matrix.
    """
    high = _tf32(matrix.float())
    return torch.stack([high, _tf32((matrix - high).float())]) if split else high


def _tf32(x: Tensor) -> Tensor:
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@lru_cache(maxsize=1024)
def on_device(device: torch.device, table: Callable[..., Tensor], *arguments: object) -> Tensor:
    """Return the tensor `table(*arguments)` on `device`, from a cache."""
    with torch.inference_mode(False), torch.no_grad():
        return constants.on_device(table(*arguments).contiguous(), device)
