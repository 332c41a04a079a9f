"""The constant matrices of the 16-bit transforms, two numbers per word, in the order lanes read them.

As in `fragments`, for products of 16 k at once. A lane's words are numbered h = 2 step + half, where half 0
is k = 2t, 2t + 1 and half 1 is k = 2t + 8, 2t + 9. A factor 1 / sqrt(size) in 16 bits would be wrong by up to
2^-9, by the same amount for every frequency. So the tables hold waves over a power of two, which is exact
for the mean, and the sums are multiplied by `table_scale` in float32.
"""

import math

import torch
from torch import Tensor

from blconv.geometry import TransformAxis
from blconv.kernels.transforms.fragments import LANE_ROW, LANE_STEP, pick, waves


def table_scale(axis: TransformAxis) -> float:
    """Return the factor by which the tables differ from 1 / sqrt(size): from sqrt(1 / 2) to sqrt(2)."""
    return 2.0 ** round(math.log2(axis.size) / 2) / math.sqrt(axis.size)


def word_count(positions: int, vector: int) -> int:
    """Return the number of words that a lane holds of an axis that is read in vectors of 2, 4 or 8."""
    return vector // 2 * -(-positions // (4 * vector))


def step_count(positions: int, vector: int) -> int:
    """Return the steps of 16 positions that cover the axis."""
    return -(-word_count(positions, vector) // 2)


def position_order(positions: int, vector: int) -> Tensor:
    """Return the two positions of a lane's word h, (h, t, 2): neighbours, in whole vectors per lane."""
    h, t, e = torch.meshgrid(
        torch.arange(2 * step_count(positions, vector)), torch.arange(4), torch.arange(2), indexing="ij"
    )
    each = vector // 2
    return 4 * vector * (h // each) + vector * t + 2 * (h % each) + e


def from_pixels(axis: TransformAxis, sign: int, vector: int, dtype: torch.dtype) -> Tensor:
    """Return operand A of pixels -> frequencies: row g is cos of frequency 8 m + g, row g + 8 sign * sin.

    int32 (tiles m, steps, 32, 4), words of dtype.
    """
    cosine, sine = _waves(axis)
    rows = 8 * torch.arange(-(-axis.kept // 8))[:, None] + LANE_ROW  # (tiles, 32)
    positions = position_order(axis.positions, vector)[:, LANE_STEP]  # (h, 32, 2)
    where = rows[:, None, :, None], positions[None]
    parts = torch.stack([pick(cosine, *where), pick(sign * sine, *where)], 3)  # (tiles, h, 32, 2 rows, 2)
    tiles = len(parts)
    return _words(parts.view(tiles, -1, 2, 32, 2, 2).transpose(2, 3).reshape(tiles, -1, 32, 4, 2), dtype)


def to_pixels(axis: TransformAxis, sign: int, dtype: torch.dtype) -> Tensor:
    """Return operand A of frequencies -> pixels: rows are positions 16 m + g and 16 m + g + 8.

    Word h of a lane is cos and sign * sin of frequency 4 h + t; int32 (tiles m, steps, 32, 4).
    """
    cosine, sine = (wave.T for wave in _waves(axis))
    tiles, steps = -(-axis.positions // 16), -(-axis.kept // 8)
    below = torch.tensor([0, 8])
    rows = 16 * torch.arange(tiles)[:, None, None, None] + LANE_ROW[:, None] + below  # (tiles, 1, 32, 2)
    frequency = (4 * torch.arange(2 * steps)[:, None] + LANE_STEP)[..., None]  # (h, 32, 1)
    parts = torch.stack([pick(cosine, rows, frequency), pick(sign * sine, rows, frequency)], -1)
    return _words(
        parts.view(tiles, steps, 2, 32, 2, 2).transpose(2, 3).reshape(tiles, steps, 32, 4, 2), dtype
    )


def to_pixels_right(axis: TransformAxis, sign: int, vector: int, dtype: torch.dtype) -> Tensor:
    """Return the same as operand B, whose columns are positions: int32 (tiles of 8 columns, steps, 32, 2).

    The columns 2t, 2t + 1 of a vector's tiles are a lane's neighbouring positions.
    """
    cosine, sine = (wave.T for wave in _waves(axis))
    tiles, steps = word_count(axis.positions, vector), -(-axis.kept // 8)
    each = vector // 2
    tile, column = torch.arange(tiles)[:, None, None], LANE_ROW
    rows = 4 * vector * (tile // each) + vector * (column // 2) + 2 * (tile % each) + column % 2
    frequency = 4 * torch.arange(2 * steps)[:, None] + LANE_STEP  # (h, 32)
    parts = torch.stack([pick(cosine, rows, frequency), pick(sign * sine, rows, frequency)], -1)
    return _words(parts.view(tiles, steps, 2, 32, 2).transpose(2, 3), dtype)


def _waves(axis: TransformAxis) -> tuple[Tensor, Tensor]:
    """Return cos and sin by (frequency, position), over a power of two: float64 (kept, positions)."""
    cosine, sine = waves(axis)
    return cosine / table_scale(axis), sine / table_scale(axis)


def _words(table: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a float64 table (..., 2), rounded to dtype, as int32 words."""
    return table.to(dtype).contiguous().view(torch.int32).squeeze(-1)
