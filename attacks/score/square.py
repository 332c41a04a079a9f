"""Square Attack: random search with squares that become smaller, within an linf or an l2 ball."""

import bisect
import math
from abc import abstractmethod
from functools import lru_cache

import torch
from foolbox.distances import Distance
from torch import Tensor

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.losses import log_odds, margin
from blrobust.attacks.building_blocks.norm_balls import BALLS, Ball
from blrobust.attacks.building_blocks.parameters import check, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.score.choices import integers, signs
from blrobust.perturbations import random_numbers

# Of 10,000 queries, those after which the share of changed pixels halves (the paper, Section 4.1;
# 500 is in the authors' code and in AutoAttack, whose results are the ones to compare with).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
TILES = 5  # the l2 search starts from a grid of 5 x 5 tiles


class SquareAttack(PerSampleSeed, EpsilonAttack):
    """Changes random squares and keeps a change if the loss falls (Andriushchenko et al. 2020).

    The loss is the margin f_y - max_{i != y} f_i of the logits f with the label y. With a targeted criterion
    it is the cross-entropy of the target class (Section 3.1), computed as negative log-odds, which order
    images in the same way. The square of a query has about p * H * W pixels. The share p starts at `share`
    and is halved by the schedule of the paper, scaled to `queries` queries.

    `queries` counts every model call of a sample, including that of the starting image. A sample that fools
    the model is not changed further. `share` lies in (0, 1]; the default 0.8 is AutoAttack's, for both norms.
    The result is the image with the lowest loss. Raises `ValueError` for a parameter that is not legal.
    """

    stream = random_numbers.SQUARE
    _ball: Ball

    def __init__(self, *, queries: int = 100, share: float = 0.8, seed: int = 0) -> None:
        check_counts(queries=queries)
        check("share", share, "numbers above 0, up to 1", accepted=0 < share <= 1)
        self.queries = queries
        self.share = share
        self.seed = seed

    @torch.no_grad()
    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        images = problem.images
        start_numbers, step_numbers = self._counts(images.shape)
        numbers = self._own_numbers(problem, start_numbers + (self.queries - 1) * step_numbers)
        best = problem.clip(self._start(images, epsilon, numbers[:, :start_numbers]))
        rows = torch.arange(len(images), device=images.device)
        logits = problem.logits(best)
        loss = self._loss(problem, logits, rows)
        searching = ~problem.fooled(logits)
        for query in range(1, self.queries):
            if should_check(query - 1, rows):
                rows = searching.nonzero()[:, 0]
                if len(rows) == 0:
                    break
            first = start_numbers + (query - 1) * step_numbers
            chosen = numbers[rows, first : first + step_numbers]
            side = self.side(query, images.shape)
            proposed = problem.clip(self._step(images[rows], best[rows], epsilon, side, chosen))
            logits = problem.logits(proposed)
            proposed_loss = self._loss(problem, logits, rows)
            better = searching[rows] & (proposed_loss < loss[rows])
            best[rows] = torch.where(better.view(-1, 1, 1, 1), proposed, best[rows])
            loss[rows] = torch.where(better, proposed_loss, loss[rows])
            searching[rows] &= ~problem.fooled(logits, rows)
        return self._ball.settle(best, images, epsilon)

    @property
    def distance(self) -> Distance:
        """The distance measure of the attack's norm."""
        return self._ball.distance

    def side(self, query: int, shape: tuple[int, ...]) -> int:
        """Return the side in pixels of the square of `query` (from 1), for images of `shape` (..., H, W)."""
        halvings = bisect.bisect_left(HALVINGS, query * 10_000 // self.queries)
        pixels = self.share / 2**halvings * math.prod(shape[-2:])
        return min(max(round(math.sqrt(pixels)), 1), *shape[-2:])

    def _loss(self, problem: Problem, logits: Tensor, rows: Tensor) -> Tensor:
        loss = log_odds if problem.targeted else margin
        return problem.sign * loss(logits, problem.classes[rows])

    @abstractmethod
    def _counts(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the numbers of random numbers that a sample needs for its starting image and for a step."""

    @abstractmethod
    def _start(self, images: Tensor, epsilon: float, numbers: Tensor) -> Tensor:
        """Return the starting images (m, C, H, W), not yet clipped to the bounds.

        `numbers` are the random numbers of each sample for its starting image.
        """

    @abstractmethod
    def _step(self, images: Tensor, best: Tensor, epsilon: float, side: int, numbers: Tensor) -> Tensor:
        """Return the next images to query (m, C, H, W), not yet clipped to the bounds.

        `best` are the best images so far, `side` is the side of the square in pixels, and `numbers` are the
        random numbers of each sample for one step.
        """


class SquareLinfAttack(SquareAttack):
    """The linf attack: it starts from vertical stripes of +-epsilon, then sets squares to +-epsilon."""

    _ball = BALLS["linf"]

    def _counts(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[1] * shape[3], 2 + shape[1]

    def _start(self, images: Tensor, epsilon: float, numbers: Tensor) -> Tensor:
        stripes = signs(numbers).view(len(images), images.shape[1], 1, images.shape[3])
        return images + epsilon * stripes

    def _step(self, images: Tensor, best: Tensor, epsilon: float, side: int, numbers: Tensor) -> Tensor:
        inside = _window(numbers[:, :2], side, images.shape)
        values = signs(numbers[:, 2:]).view(*images.shape[:2], 1, 1)
        return torch.where(inside, images + epsilon * values, best)


class SquareL2Attack(SquareAttack):
    """The l2 attack (Algorithm 3): each step moves squared l2 norm from one square to another.

    A step sets the perturbation in one square to 0 and replaces it in another square. In each colour
    channel, the replacement is the old perturbation of the square, normalised, plus or minus the pattern eta
    that the function `bumps` returns. This sum is scaled so that its squared l2 norm is a + (epsilon^2 - b) /
    C, where a is the squared norm of the channel's old perturbation in both squares, b is that of the whole
    old perturbation, and C is the number of channels.
    """

    _ball = BALLS["l2"]

    def side(self, query: int, shape: tuple[int, ...]) -> int:
        """Return an odd side of at least 3 pixels, or the shorter side of the images (..., H, W) if less."""
        side = max(super().side(query, shape), 3) // 2 * 2 + 1
        return min(side, *shape[-2:])

    def _counts(self, shape: tuple[int, ...]) -> tuple[int, int]:
        _, rows, columns = _tiles(shape)
        return shape[1] * rows * columns + 1, 4 + shape[1] + 1

    def _start(self, images: Tensor, epsilon: float, numbers: Tensor) -> Tensor:
        side, rows, columns = _tiles(images.shape)
        height, width = images.shape[2:]
        values = signs(numbers[:, 1:]).view(*images.shape[:2], rows, columns)
        values = values.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
        tiles = values * _turned(bumps(side, images.device), numbers[:, 0]).repeat(1, 1, rows, columns)
        change = torch.zeros_like(images)
        top, left = (height - rows * side) // 2, (width - columns * side) // 2
        change[:, :, top : top + rows * side, left : left + columns * side] = tiles
        return images + change * (epsilon / _norm(change, (1, 2, 3)))

    def _step(self, images: Tensor, best: Tensor, epsilon: float, side: int, numbers: Tensor) -> Tensor:
        change = best - images
        channels = images.shape[1]
        filled = _window(numbers[:, :2], side, images.shape)
        emptied = _window(numbers[:, 2:4], side, images.shape)
        values = signs(numbers[:, 5:]).view(-1, channels, 1, 1)
        bump = torch.zeros_like(change[:, :1])
        bump.masked_scatter_(filled, _turned(bumps(side, images.device), numbers[:, 4]))
        old = change * filled
        direction = values * bump + old / _norm(old, (2, 3)).clamp(min=1e-12)
        unused = (epsilon**2 - change.square().sum((1, 2, 3), keepdim=True)).clamp(min=0) / channels
        mass = (change * (filled | emptied)).square().sum((2, 3), keepdim=True) + unused
        moved = direction * (mass.sqrt() / _norm(direction, (2, 3)).clamp(min=1e-12))
        change = torch.where(filled, moved, change.masked_fill(emptied, 0))
        # The norm is epsilon already, up to rounding.
        return images + change * (epsilon / _norm(change, (1, 2, 3)).clamp(min=1e-12)).clamp(max=1)


@lru_cache(maxsize=32)
def bumps(side: int, device: torch.device) -> Tensor:
    """Return the pattern eta of Section 3.4, float32 (side, side), of l2 norm 1.

    The upper half is a positive bump and the lower half a negative one, each largest at its centre.
    """
    half = side // 2
    eta = torch.cat([_bump(half, side), -_bump(side - half, side)])
    unit: Tensor = eta / eta.norm()
    return unit.to(device)


def _bump(height: int, width: int) -> Tensor:
    """Return a bump (height, width) that is largest at its centre.

    The value of a pixel is the sum of 1 / (j + 1)^2 over j from d to width // 2, where d is the larger of its
    vertical and horizontal distance from the centre.
    """
    down = (torch.arange(height) - height // 2).abs()
    across = (torch.arange(width) - width // 2).abs()
    terms = 1 / torch.arange(1, width // 2 + 2, dtype=torch.float32).square()
    return terms.flip(0).cumsum(0).flip(0)[torch.maximum(down[:, None], across)]


def _turned(eta: Tensor, numbers: Tensor) -> Tensor:
    """Return `eta` or its transpose for each sample, (m, 1, side, side); random `numbers` (m,) choose."""
    return torch.where((numbers < 0.5).view(-1, 1, 1, 1), eta, eta.T)


def _tiles(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the side in pixels of the l2 search's starting tiles, and their numbers of rows and columns."""
    height, width = shape[-2:]
    side = max(min(height, width) // TILES, 1)
    return side, height // side, width // side


def _window(numbers: Tensor, side: int, shape: tuple[int, ...]) -> Tensor:
    """Return a mask bool (m, 1, H, W) of a square of `side` x `side` pixels at a random position.

    The uniform random `numbers` (m, 2) in [0, 1) choose the first row and the first column of the square.
    """
    height, width = shape[-2:]
    top = integers(numbers[:, 0], height - side + 1).view(-1, 1, 1, 1)
    left = integers(numbers[:, 1], width - side + 1).view(-1, 1, 1, 1)
    row = torch.arange(height, device=numbers.device).view(-1, 1)
    column = torch.arange(width, device=numbers.device)
    return (row >= top) & (row < top + side) & (column >= left) & (column < left + side)


def _norm(change: Tensor, dims: tuple[int, ...]) -> Tensor:
    return change.square().sum(dims, keepdim=True).sqrt()
