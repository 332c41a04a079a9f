"""The constant matrices of the transforms, in the order in which the lanes of a warp read them.

The waves of an axis are cos and sin of 2 pi f position / size for its kept frequencies f, over sqrt(size), so
that a transform and its inverse together have factor 1. A matrix is stored as (tiles of rows, steps of k,
32 lanes, numbers of a lane), so that a lane reads its numbers of one `mma` as one vector.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from blconv.geometry import TransformAxis

LANE_ROW = torch.arange(32) // 4  # g
LANE_STEP = torch.arange(32) % 4  # t


def waves(axis: TransformAxis) -> tuple[Tensor, Tensor]:
    """Return cos and sin by (frequency, position), float64 (kept, positions)."""
    position = axis.start + axis.step * torch.arange(axis.positions)
    phase = torch.arange(axis.kept)[:, None] * position[None, :] % axis.size
    angle = phase.double() * (2 * math.pi / axis.size)
    return angle.cos() / math.sqrt(axis.size), angle.sin() / math.sqrt(axis.size)


def coefficient_count(kept_rows: int, kept_columns: int) -> int:
    """Return Q, the number of complex coefficients that represent a plane: one of each conjugate pair."""
    return kept_rows + (kept_columns - 1) * (2 * kept_rows - 1)


def part_count(count: int) -> int:
    """Return 2 for real and imaginary parts, or 1 where only the mean is kept, which is real."""
    return 1 if count == 1 else 2


def step_count(positions: int, vector: int) -> int:
    """Return the steps of 8 positions that cover an axis read in vectors of 1, 2 or 4 positions per lane."""
    return 2 * -(-positions // 16) if vector == 4 else -(-positions // 8)


def position_order(positions: int, vector: int) -> Tensor:
    """Return the position of each k index of a lane, (steps, t, half): half 0 is k = t, half 1 is k = t + 4.

    The order of k is free, so with vectors of 2 or 4 neighbours a lane multiplies the numbers it has read.
    """
    s, t, half = torch.meshgrid(
        torch.arange(step_count(positions, vector)), torch.arange(4), torch.arange(2), indexing="ij"
    )
    if vector == 4:
        return 16 * (s // 2) + 4 * t + 2 * (s % 2) + half
    return 8 * s + 2 * t + half if vector == 2 else 8 * s + t + 4 * half


def from_pixels(axis: TransformAxis, sign: int, vector: int, split: bool) -> Tensor:
    """Return operand A of pixels -> frequencies: row g is cos of frequency 8 m + g, row g + 8 sign * sin.

    (tiles m, steps, 32, 4), by `round_table`.
    """
    cosine, sine = waves(axis)
    tiles = -(-axis.kept // 8)
    k = position_order(axis.positions, vector)  # (steps, t, half)
    rows = 8 * torch.arange(tiles)[:, None] + LANE_ROW[None, :]  # (tiles, 32)
    where = rows[:, None, :, None], k[:, LANE_STEP][None]  # against (1, steps, 32, half)
    even, odd = pick(cosine, *where), pick(sign * sine, *where)
    return round_table(torch.stack([even[..., 0], odd[..., 0], even[..., 1], odd[..., 1]], -1), split=split)


def to_pixels(axis: TransformAxis, sign: int, split: bool) -> Tensor:
    """Return operand A of frequencies -> pixels: rows are positions 16 m + g and 16 m + g + 8.

    k = t is cos of frequency 4 s + t, k = t + 4 sign * sin. (tiles m, steps, 32, 4), by `round_table`.
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
    """Return the same as operand B, whose columns are positions: (tiles of 8 columns, steps, 32, 2).

    With vectors of 4, the columns 2t and 2t + 1 of two tiles are four neighbouring positions.
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
    """Return matrix[rows, columns], 0 outside the matrix."""
    rows, columns = torch.broadcast_tensors(rows, columns)
    inside = (rows < matrix.shape[0]) & (columns < matrix.shape[1])
    picked = matrix[rows.clamp(max=matrix.shape[0] - 1), columns.clamp(max=matrix.shape[1] - 1)]
    return torch.where(inside, picked, 0.0)


def round_table(matrix: Tensor, *, split: bool) -> Tensor:
    """Return a float64 table as numbers that tensor cores read exactly; split: (2, ...), high and low."""
    high = _tf32(matrix.float())
    return torch.stack([high, _tf32((matrix - high).float())]) if split else high


def _tf32(x: Tensor) -> Tensor:
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@lru_cache(maxsize=1024)
def on_device(device: torch.device, table: Callable[..., Tensor], *arguments: object) -> Tensor:
    """Return `table(*arguments)` on a device, from the cache."""
    with torch.inference_mode(False), torch.no_grad():
        return table(*arguments).contiguous().to(device)
