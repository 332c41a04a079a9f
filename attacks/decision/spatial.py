"""Rotations and translations: the first of a grid, or of some random ones, that fools the model."""

import math
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from eagerpy.astensor import astensor
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.first_success import Oracle, Unmeasured, checked_images, first_fooling
from blrobust.attacks.building_blocks.problem import call
from blrobust.errors import UserError
from blrobust.perturbations import random_numbers

T = TypeVar("T")

LIMITS = 30.0, 3.0  # degrees and pixels of Engstrom et al. 2019, for images of 32 pixels


def check_limit(strength: float, shape: tuple[int, ...]) -> None:
    """Raise ``UserError`` where ``strength`` is negative or no number, for images of ``shape``."""
    if not 0 <= strength < math.inf:
        raise UserError(f"strength {strength:g}: rotations and translations take a limit of at least 0")


def move(images: Tensor, degrees: Tensor, right: Tensor, down: Tensor, *, fill: float) -> Tensor:
    """Turn images (n, C, H, W) counter-clockwise about their centre, then shift them in pixels.

    ``degrees``, ``right`` and ``down`` are (n,). Bilinear; what comes in from outside is ``fill``.
    By whole pixels the result is exact: no number is interpolated.
    """
    height, width = images.shape[2:]
    # On a canvas whose sides are powers of 2 the grid's units, shares of the side, are exact.
    sides = [1 << (side - 1).bit_length() for side in (width, height)]
    canvas = images - fill if fill else images
    if sides != [width, height]:
        canvas = F.pad(canvas, (0, sides[0] - width, 0, sides[1] - height))
    angle = torch.deg2rad(degrees).view(-1, 1, 1)
    across = torch.arange(width, device=images.device) - (width - 1) / 2 - right.view(-1, 1, 1)
    along = torch.arange(height, device=images.device).view(-1, 1) - (height - 1) / 2 - down.view(-1, 1, 1)
    x = angle.cos() * across - angle.sin() * along + (width - 1) / 2  # (n, H, W)
    y = angle.sin() * across + angle.cos() * along + (height - 1) / 2
    grid = torch.stack([(2 * x + 1) / sides[0] - 1, (2 * y + 1) / sides[1] - 1], dim=-1)
    moved = F.grid_sample(canvas, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved + fill if fill else moved


class _Moves(FixedEpsilonAttack, ABC):
    """Tries moves in order; what comes in from outside is 0, or the bound nearest to it."""

    distance = Unmeasured()
    limits: tuple[float, float]
    """Degrees and pixels at strength 1."""

    def __repr__(self) -> str:
        return call(self)

    def _search(self, model: Model, inputs: T, criterion: Any, moves: Tensor, *, epsilon: float) -> T:
        """Images moved by the first of ``moves`` that fools the model, or as they were.

        ``moves`` (m or 1, k, 3) are degrees, right and down as shares of their limits.
        """
        images, restore = checked_images(inputs, model)
        check_limit(epsilon, images.shape[1:])
        lower, upper = model.bounds
        fill = min(max(0.0, lower), upper)
        degrees, pixels = self.limits
        scale = torch.tensor([degrees, pixels, pixels], dtype=torch.float64) * epsilon
        scaled = (moves * scale).to(images).expand(len(images), -1, -1)

        def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
            chosen = scaled[rows][:, candidate_ids].flatten(0, 1)  # (n * k, 3)
            copies = images[rows].repeat_interleave(len(candidate_ids), dim=0)
            moved = move(copies, *chosen.unbind(dim=1), fill=fill)
            return moved.clamp(lower, upper).view(len(rows), len(candidate_ids), *images.shape[1:])

        found, _ = first_fooling(Oracle(model, criterion), images, make, scaled.shape[1])
        return restore(astensor(found))


class _GridMoves(_Moves):
    """Tries every move of a grid."""

    @abstractmethod
    def _grid(self) -> tuple[int, int]:
        """Numbers of angles and of shifts along each axis."""

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Images (batch, C, H, W), moved by the first of the grid that fools the model, or as they were.

        Raises ``UserError`` where ``epsilon`` is negative, ``ValueError`` for inputs beyond the
        bounds and other criteria.
        """
        raise_if_kwargs(kwargs)
        angles, shifts = (_line(count) for count in self._grid())
        moves = torch.cartesian_prod(angles, shifts, shifts).unsqueeze(0)
        return self._search(model, inputs, criterion, moves, epsilon=epsilon)


def _line(count: int) -> Tensor:
    """``count`` even steps from -1 to 1, float64; 0 alone where there is one."""
    return torch.linspace(-1, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1).double()


def _counted(name: str, count: int) -> int:
    if count < 1:
        raise ValueError(f"{name} = {count}; legal: at least 1")
    return count


class RotationAttack(_GridMoves):
    """Turn by ``angles`` even steps from -``epsilon`` to ``epsilon`` degrees.

    Engstrom et al. 2019, section 3.
    """

    limits = (1.0, 0.0)

    def __init__(self, *, angles: int = 31) -> None:
        self.angles = _counted("angles", angles)

    def _grid(self) -> tuple[int, int]:
        return self.angles, 1


class TranslationAttack(_GridMoves):
    """Shift along both axes by ``shifts`` even steps from -``epsilon`` to ``epsilon`` pixels.

    Engstrom et al. 2019, section 3.
    """

    limits = (0.0, 1.0)

    def __init__(self, *, shifts: int = 5) -> None:
        self.shifts = _counted("shifts", shifts)

    def _grid(self) -> tuple[int, int]:
        return 1, self.shifts


class SpatialAttack(_GridMoves):
    """Turn and shift at once, over a grid (Engstrom et al. 2019, section 3, "grid search").

    ``epsilon`` is the share of the paper's limits, 30 degrees and 3 pixels. Foolbox's counts the
    pixels by half the side instead of half the distance between the outermost pixels: its shifts
    by whole pixels blur.
    """

    limits = LIMITS

    def __init__(self, *, angles: int = 5, shifts: int = 5) -> None:
        self.angles = _counted("angles", angles)
        self.shifts = _counted("shifts", shifts)

    def _grid(self) -> tuple[int, int]:
        return self.angles, self.shifts


class RandomSpatialAttack(_Moves):
    """Turn and shift by ``tries`` random moves (Engstrom et al. 2019, section 3, "worst-of-k").

    ``epsilon`` is the share of the paper's limits, 30 degrees and 3 pixels; the moves are uniform
    within, belong to the sample, and scale with the limits.
    """

    limits = LIMITS

    def __init__(self, *, tries: int = 10, seed: int = 0) -> None:
        self.tries = _counted("tries", tries)
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.SPATIAL)

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        epsilon: float,
        draw: int = 0,
        samples: range | tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> T:
        """Images (batch, C, H, W), moved by the first try that fools the model, or as they were.

        `samples` are the ids of the images in the data set (default 0..batch - 1); they and `draw`
        choose the moves. Raises ``UserError`` where ``epsilon`` is negative, ``ValueError`` for
        inputs beyond the bounds and other criteria.
        """
        raise_if_kwargs(kwargs)
        numbers = self._numbers(
            3 * self.tries,
            seed=self.seed,
            draw=draw,
            samples=range(len(astensor(inputs))) if samples is None else samples,
            device=torch.device("cpu"),
        )
        moves = numbers.view(-1, self.tries, 3).double() * 2 - 1
        return self._search(model, inputs, criterion, moves, epsilon=epsilon)
