"""Rotations and translations: the first of a grid, or of some random ones, that fools the model."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.distances import Unmeasured
from blrobust.attacks.building_blocks.first_success import first_fooling
from blrobust.attacks.building_blocks.level_checks import check_not_negative
from blrobust.attacks.building_blocks.parameters import check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.perturbations import random_numbers

LIMITS = 30.0, 3.0  # degrees and pixels of Engstrom et al. 2019, for images of 32 pixels


def move(images: Tensor, degrees: Tensor, right: Tensor, down: Tensor, *, fill: float) -> Tensor:
    """Return images (n, C, H, W) turned counter-clockwise about their centre, then shifted.

    `degrees`, and `right` and `down` in pixels, are (n,). Bilinear; pixels from outside the image
    are `fill`. A shift by whole pixels is exact: it interpolates nothing.
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


class _Moves(EpsilonAttack, ABC):
    """Tries moves in order; pixels from outside the image are 0, or the bound nearest to it.

    An image for which no move fools the model is returned unchanged. `run` raises `UserError` for a
    negative `epsilon`.
    """

    distance = Unmeasured()
    limits: tuple[float, float]
    """Degrees and pixels at level 1."""

    @abstractmethod
    def _moves(self, problem: Problem) -> Tensor:
        """Return the moves, float64 (m or 1, k, 3): degrees, right and down as shares of their limits."""

    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        images = problem.images
        check_not_negative(epsilon, images.shape[1:])
        lower, upper = problem.bounds
        fill = min(max(0.0, lower), upper)
        degrees, pixels = self.limits
        scale = torch.tensor([degrees, pixels, pixels], dtype=torch.float64) * epsilon
        scaled = (self._moves(problem) * scale).to(images).expand(len(images), -1, -1)

        def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
            chosen = scaled[rows][:, candidate_ids].flatten(0, 1)  # (n * k, 3)
            copies = images[rows].repeat_interleave(len(candidate_ids), dim=0)
            moved = move(copies, *chosen.unbind(dim=1), fill=fill)
            return moved.clamp(lower, upper).view(len(rows), len(candidate_ids), *images.shape[1:])

        found, _ = first_fooling(problem, make, scaled.shape[1])
        return found


class _GridMoves(_Moves):
    """Tries every move of a grid."""

    @abstractmethod
    def _grid(self) -> tuple[int, int]:
        """Return the number of angles, and the number of shifts along each axis."""

    def _moves(self, problem: Problem) -> Tensor:
        angles, shifts = (_line(count) for count in self._grid())
        return torch.cartesian_prod(angles, shifts, shifts).unsqueeze(0)


def _line(count: int) -> Tensor:
    """Return `count` even steps from -1 to 1, float64; 0 alone for a count of 1."""
    return torch.linspace(-1, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1).double()


class RotationAttack(_GridMoves):
    """Turns by `angles` even steps from -`epsilon` to `epsilon` degrees.

    Engstrom et al. 2019, section 3. Raises `ValueError` for a parameter that is not legal.
    """

    limits = (1.0, 0.0)

    def __init__(self, *, angles: int = 31) -> None:
        check_counts(angles=angles)
        self.angles = angles

    def _grid(self) -> tuple[int, int]:
        return self.angles, 1


class TranslationAttack(_GridMoves):
    """Shifts along both axes by `shifts` even steps from -`epsilon` to `epsilon` pixels.

    Engstrom et al. 2019, section 3. Raises `ValueError` for a parameter that is not legal.
    """

    limits = (0.0, 1.0)

    def __init__(self, *, shifts: int = 5) -> None:
        check_counts(shifts=shifts)
        self.shifts = shifts

    def _grid(self) -> tuple[int, int]:
        return 1, self.shifts


class SpatialAttack(_GridMoves):
    """Turns and shifts at once, over a grid (Engstrom et al. 2019, section 3, "grid search").

    `epsilon` is the share of the paper's limits, 30 degrees and 3 pixels. The unit of a shift
    in Foolbox's class is half the side instead of half the distance between the outermost pixels, so its
    shifts by whole pixels blur the image. Raises `ValueError` for a parameter that is not legal.
    """

    limits = LIMITS

    def __init__(self, *, angles: int = 5, shifts: int = 5) -> None:
        check_counts(angles=angles, shifts=shifts)
        self.angles = angles
        self.shifts = shifts

    def _grid(self) -> tuple[int, int]:
        return self.angles, self.shifts


class RandomSpatialAttack(PerSampleSeed, _Moves):
    """Turns and shifts by `tries` random moves (Engstrom et al. 2019, section 3, "worst-of-k").

    `epsilon` is the share of the paper's limits, 30 degrees and 3 pixels. The moves are uniform within
    the limits, belong to the sample, and scale with the limits. Raises `ValueError` for a parameter
    that is not legal.
    """

    limits = LIMITS
    stream = random_numbers.SPATIAL

    def __init__(self, *, tries: int = 10, seed: int = 0) -> None:
        check_counts(tries=tries)
        self.tries = tries
        self.seed = seed

    def _moves(self, problem: Problem) -> Tensor:
        numbers = self._own_numbers(problem, 3 * self.tries).cpu()  # not every device has float64
        return numbers.view(-1, self.tries, 3).double() * 2 - 1
