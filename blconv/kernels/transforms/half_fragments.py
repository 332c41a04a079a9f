"""The constant matrices of the 16-bit transforms, in the order in which the lanes of a warp read them.

A word is 32 bits with two 16-bit numbers. The matrices are those of `fragments`, but in the order of the
products of `blconv.kernels.primitives.words`, with 16 values of k in a step. The words of a lane are numbered
h = 2 * step + half. With t = lane % 4, half 0 holds k = 2t and 2t + 1, and half 1 holds k = 2t + 8 and 2t +
9.

The factor 1 / sqrt(size), rounded to 16 bits, would have an error of up to 2^-9, the same for every
frequency. So the cosines and sines are divided by a power of two instead, which is exact for the mean, and
the kernels multiply the sums by `table_scale` in float32.
"""

import math

import torch
from torch import Tensor

from blconv.geometry import TransformAxis
from blconv.kernels.transforms.fragments import LANE_ROW, LANE_STEP, pick, waves


def table_scale(axis: TransformAxis) -> float:
    """Return the factor by which kernels multiply products with the matrices: from sqrt(1/2) to sqrt(2).

    It is 2^n / sqrt(size), where 2^n is the power of two by which the matrices are divided.
    """
    return 2.0 ** round(math.log2(axis.size) / 2) / math.sqrt(axis.size)


def word_count(positions: int, vector: int) -> int:
    """Return the number of words that a lane reads of an axis with `positions` positions.

    Four lanes divide the axis among themselves: those that hold the same row of operand A or the same column
    of operand B. A lane reads vectors of `vector` (2, 4 or 8) neighbouring positions.
    """
    return vector // 2 * -(-positions // (4 * vector))


def step_count(positions: int, vector: int) -> int:
    """Return the number of steps, of 16 positions each, that cover an axis with `positions` positions.

    `vector` is the number of neighbouring positions, 2, 4 or 8, that a lane reads at once.
    """
    return -(-word_count(positions, vector) // 2)


def position_order(positions: int, vector: int) -> Tensor:
    """Return the two neighbouring positions in word h of the lanes with t = lane % 4, int64 (h, t, 2).

    The positions may be summed in any order. This order is chosen so that a lane multiplies the words that it
    has read itself, in vectors of `vector` neighbours.
    """
    h, t, e = torch.meshgrid(
        torch.arange(2 * step_count(positions, vector)), torch.arange(4), torch.arange(2), indexing="ij"
    )
    each = vector // 2
    return 4 * vector * (h // each) + vector * t + 2 * (h % each) + e


def from_pixels(axis: TransformAxis, sign: int, vector: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix that transforms positions to frequencies, as operand A: (tiles, steps, 32 lanes, 4).

    The entries are int32 words of two `dtype` numbers. With g = lane // 4, row g of tile m has the cosines of
    frequency 8 * m + g, and row g + 8 has its sines times `sign`. The positions are in the order of
    `position_order`.
    """
    cosine, sine = _waves(axis)
    rows = 8 * torch.arange(-(-axis.kept // 8))[:, None] + LANE_ROW  # (tiles, 32)
    positions = position_order(axis.positions, vector)[:, LANE_STEP]  # (h, 32, 2)
    where = rows[:, None, :, None], positions[None]
    parts = torch.stack([pick(cosine, *where), pick(sign * sine, *where)], 3)  # (tiles, h, 32, 2 rows, 2)
    tiles = len(parts)
    return _words(parts.view(tiles, -1, 2, 32, 2, 2).transpose(2, 3).reshape(tiles, -1, 32, 4, 2), dtype)


def to_pixels(axis: TransformAxis, sign: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix that transforms frequencies to positions, as operand A: (tiles, steps, 32 lanes, 4).

    The entries are int32 words of two `dtype` numbers. With g = lane // 4 and t = lane % 4, rows g and g + 8
    of tile m are the positions 16 * m + g and 16 * m + g + 8. Word h of a lane, counted over all steps, has
    the cosine of frequency 4 * h + t, and its sine times `sign`.
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
    """Return the matrix of `to_pixels` transposed, as operand B: (tiles, steps, 32 lanes, 2).

    The entries are int32 words of two `dtype` numbers. The columns are positions. A lane with t = lane % 4
    writes `vector` neighbouring positions at once. These are columns 2t and 2t + 1 of `vector` / 2 successive
    tiles.
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
    """Return cos and sin of 2 pi f * position / size, over a power of two: float64, each (kept, positions).

    f are the kept frequencies of the axis, and `table_scale` documents the power of two.
    """
    cosine, sine = waves(axis)
    return cosine / table_scale(axis), sine / table_scale(axis)


def _words(table: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a float64 table (..., 2), rounded to `dtype`, as int32 words (...)."""
    return table.to(dtype).contiguous().view(torch.int32).squeeze(-1)
