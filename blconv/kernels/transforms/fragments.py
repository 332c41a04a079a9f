"""The constant matrices of the transforms, in the order in which a warp's lanes read them.

One axis has `positions` pixels at start, start + step, ... of a transform of `size` points, and `kept`
frequencies f; its waves are cos and sin of 2 pi f position / size, over sqrt(size), so that a transform
there and back has factor 1. `lanes` holds a matrix as (tiles of rows, steps of k, 32 lanes, numbers of a
lane), so that a lane reads its numbers of one `mma` as one vector.
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
    """cos and sin by (frequency, position), float64 (kept, positions)."""
    position = axis.start + axis.step * torch.arange(axis.positions)
    phase = torch.arange(axis.kept)[:, None] * position[None, :] % axis.size
    angle = phase.double() * (2 * math.pi / axis.size)
    return angle.cos() / math.sqrt(axis.size), angle.sin() / math.sqrt(axis.size)


def coefficient_count(kept_rows: int, kept_columns: int) -> int:
    """Q, the complex coefficients that stand for a plane: one of each conjugate pair."""
    return kept_rows + (kept_columns - 1) * (2 * kept_rows - 1)


def part_count(count: int) -> int:
    """Real and imaginary, or real alone where only the mean is kept."""
    return 1 if count == 1 else 2


def step_count(positions: int, vector: int) -> int:
    """Steps of 8 positions that cover an axis read in vectors of 1, 2 or 4 positions a lane."""
    return 2 * -(-positions // 16) if vector == 4 else -(-positions // 8)


def position_order(positions: int, vector: int) -> Tensor:
    """Which position a lane's k index stands for, (steps, t, half): half 0 is k = t, half 1 is k = t + 4.

    With vectors of 2 or 4 neighbours a lane multiplies what it has loaded, whatever the order of k is.
    """
    s, t, half = torch.meshgrid(
        torch.arange(step_count(positions, vector)), torch.arange(4), torch.arange(2), indexing="ij"
    )
    if vector == 4:
        return 16 * (s // 2) + 4 * t + 2 * (s % 2) + half
    return 8 * s + 2 * t + half if vector == 2 else 8 * s + t + 4 * half


def from_pixels(axis: TransformAxis, sign: int, vector: int, split: bool) -> Tensor:
    """Operand A of pixels -> frequencies: row g is cos of frequency 8 m + g, row g + 8 is sign * sin.

    Returns (tiles m, steps, 32, 4), `round_table`.
    """
    cosine, sine = waves(axis)
    tiles = -(-axis.kept // 8)
    k = position_order(axis.positions, vector)  # (steps, t, half)
    rows = 8 * torch.arange(tiles)[:, None] + LANE_ROW[None, :]  # (tiles, 32)
    where = rows[:, None, :, None], k[:, LANE_STEP][None]  # against (1, steps, 32, half)
    even, odd = pick(cosine, *where), pick(sign * sine, *where)
    return round_table(torch.stack([even[..., 0], odd[..., 0], even[..., 1], odd[..., 1]], -1), split=split)


def to_pixels(axis: TransformAxis, sign: int, split: bool) -> Tensor:
    """Operand A of frequencies -> pixels: rows are positions 16 m + g and + 8; k = t is cos of 4 s + t,
    k = t + 4 sign * sin. Returns (tiles m, steps, 32, 4), `round_table`.
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
    """The same as operand B, whose columns are positions: (tiles of 8 columns, steps, 32, 2), `round_table`.

    With vectors of 4 a pair of tiles gives a lane four neighbours: its columns 2t, 2t + 1 of both.
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
    """matrix[rows, columns], 0 outside of it."""
    rows, columns = torch.broadcast_tensors(rows, columns)
    inside = (rows < matrix.shape[0]) & (columns < matrix.shape[1])
    picked = matrix[rows.clamp(max=matrix.shape[0] - 1), columns.clamp(max=matrix.shape[1] - 1)]
    return torch.where(inside, picked, 0.0)


def round_table(matrix: Tensor, *, split: bool) -> Tensor:
    """A float64 table as numbers the tensor cores read exactly; split: (2, ...), their sum is float32's."""
    high = _tf32(matrix.float())
    return torch.stack([high, _tf32((matrix - high).float())]) if split else high


def _tf32(x: Tensor) -> Tensor:
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@lru_cache(maxsize=1024)
def on_device(device: torch.device, table: Callable[..., Tensor], *arguments: object) -> Tensor:
    """`table(*arguments)` on a device, made once and kept."""
    with torch.inference_mode(False), torch.no_grad():
        return table(*arguments).contiguous().to(device)
