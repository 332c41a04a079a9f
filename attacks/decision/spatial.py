"""Attacks that rotate and shift images, by all moves (rotation and shift) of a grid or by random moves."""

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

LIMITS = 30.0, 3.0  # degrees and pixels, from Engstrom et al. 2019 for images of 32 x 32 pixels


def move(images: Tensor, degrees: Tensor, right: Tensor, down: Tensor, *, fill: float) -> Tensor:
    """Return images (n, C, H, W) rotated counter-clockwise about their centre, then shifted.

    `degrees` (n,) are the angles, `right` and `down` (n,) the shifts in pixels. The interpolation is
    bilinear. Pixels that come from outside the image get the value `fill`. A shift by whole pixels without a
    rotation is exact, because nothing is interpolated.
    """
    height, width = images.shape[2:]
    # grid_sample takes positions as shares of a side: exact on a canvas whose sides are powers of 2.
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
    """Applies one move after another (a rotation and a shift) to each image, until one fools the model.

    Pixels that come from outside the image are 0, or the bound nearest to 0 if 0 is beyond the bounds. An
    image for which no move fools the model is returned unchanged. `run` raises `UserError` for a negative
    `epsilon`.
    """

    distance = Unmeasured()
    limits: tuple[float, float]
    """The largest angle in degrees and the largest shift in pixels at level 1."""

    @abstractmethod
    def _moves(self, problem: Problem) -> Tensor:
        """Return k moves for each sample, or k moves common to all samples, float64 (m or 1, k, 3).

        The three numbers of a move are its angle and its shifts to the right and down, as fractions of
        `limits`.
        """

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
    """Tries every move of a grid of angles, horizontal shifts and vertical shifts."""

    @abstractmethod
    def _grid(self) -> tuple[int, int]:
        """Return the number of angles, and the number of shifts along each axis."""

    def _moves(self, problem: Problem) -> Tensor:
        angles, shifts = (_line(count) for count in self._grid())
        return torch.cartesian_prod(angles, shifts, shifts).unsqueeze(0)


def _line(count: int) -> Tensor:
    """Return `count` evenly spaced numbers from -1 to 1, float64; 0 alone if `count` is 1."""
    return torch.linspace(-1, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1).double()


class RotationAttack(_GridMoves):
    """Rotates by `angles` evenly spaced angles from -`epsilon` to `epsilon` degrees.

    Engstrom et al. 2019, section 3. Raises `ValueError` for a parameter that is not legal.
    """

    limits = (1.0, 0.0)

    def __init__(self, *, angles: int = 31) -> None:
        check_counts(angles=angles)
        self.angles = angles

    def _grid(self) -> tuple[int, int]:
        return self.angles, 1


class TranslationAttack(_GridMoves):
    """Shifts horizontally and vertically by `shifts` evenly spaced distances, -`epsilon` to `epsilon` pixels.

    Engstrom et al. 2019, section 3. Raises `ValueError` for a parameter that is not legal.
    """

    limits = (0.0, 1.0)

    def __init__(self, *, shifts: int = 5) -> None:
        check_counts(shifts=shifts)
        self.shifts = shifts

    def _grid(self) -> tuple[int, int]:
        return 1, self.shifts


class SpatialAttack(_GridMoves):
    """Rotates and shifts at once, over a grid (Engstrom et al. 2019, section 3, "grid search").

    The grid has `angles` angles and, along each axis, `shifts` shifts. Its limits are `epsilon` * 30 degrees
    and `epsilon` * 3 pixels, where 30 and 3 are those of the paper. In Foolbox's class, the unit of shifts is
    half the side of the image, but `grid_sample` expects half the distance between the outermost pixels. So
    Foolbox's shifts by whole pixels blur the image. Raises `ValueError` for a parameter that is not legal.
    """

    limits = LIMITS

    def __init__(self, *, angles: int = 5, shifts: int = 5) -> None:
        check_counts(angles=angles, shifts=shifts)
        self.angles = angles
        self.shifts = shifts

    def _grid(self) -> tuple[int, int]:
        return self.angles, self.shifts


class RandomSpatialAttack(PerSampleSeed, _Moves):
    """Rotates and shifts by `tries` random moves (Engstrom et al. 2019, section 3, "worst-of-k").

    Each sample has its own moves, uniform within `epsilon` * 30 degrees and `epsilon` * 3 pixels, where 30
    and 3 are the limits of the paper. For another `epsilon`, the same random moves are scaled. Raises
    `ValueError` for a parameter that is not legal.
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
