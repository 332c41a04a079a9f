"""SimBA: a walk along random orthonormal directions, with a step up or down if it improves the score."""

import math
from abc import abstractmethod
from functools import lru_cache

import torch
from foolbox.distances import l2
from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.losses import log_odds
from blrobust.attacks.building_blocks.parameters import check_above_0, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.errors import UserError
from blrobust.perturbations import random_numbers


class WalkAttack(PerSampleSeed, MinimalAttack):
    """Adds +-`step` * d for one direction d after another if it improves the score (Guo et al. 2019).

    Algorithm 1 of the paper. The directions are orthonormal, and each is used once, in a random order that
    differs between samples. A direction costs one query if its positive step is kept, otherwise two. The
    score is the probability of the label, which should fall. With a targeted criterion it is the probability
    of the target class, which should rise. After n kept steps the perturbation has an l2 norm of at most
    `step` * sqrt(n), and less if colour values are clipped (Section 3.3). The norm only grows, so one walk,
    to the first adversarial image, serves all levels. A sample without an adversarial image is returned
    unchanged.

    `step` is in units of the width of the bounds. `queries` counts every model call of a sample, including
    that of the clean image. Raises `ValueError` for a parameter that is not legal.
    """

    distance = l2
    stream = random_numbers.SIMBA

    def __init__(self, *, step: float = 0.2, queries: int = 200, seed: int = 0) -> None:
        check_above_0(step=step)
        check_counts(queries=queries)
        self.step = step
        self.queries = queries
        self.seed = seed

    @torch.no_grad()
    def _search(self, problem: Problem) -> Tensor:
        images = problem.images
        lower, upper = problem.bounds
        step = self.step * (upper - lower)
        count = self._count(images.shape)
        order = self._own_numbers(problem, count).argsort(dim=1, stable=True)
        best = images.clone(memory_format=torch.contiguous_format)
        logits = problem.logits(best)
        loss = problem.sign * log_odds(logits, problem.classes)
        found = problem.fooled(logits)
        walking = ~found
        position = torch.zeros_like(problem.classes)  # index in `order`
        sign = torch.ones_like(loss)
        rows = torch.arange(len(images), device=images.device)
        # Samples are at different positions of their orders; each step of the loop is one query for each
        # sample.
        for query in range(1, self.queries):
            if should_check(query - 1, rows):
                rows = walking.nonzero()[:, 0]
                if len(rows) == 0:
                    break
                row = torch.arange(len(rows), device=rows.device)
                parts, classes = self._parts(best), problem.classes[rows]
            signs, positions = sign[rows], position[rows]
            part, direction = self._direction(order[rows, positions.clamp(max=count - 1)], images.shape)
            # A direction changes one part of the image; the others go to the model as they are.
            proposed, now = parts[rows], parts[rows, part]
            moved = torch.addcmul(now, direction, step * signs[:, None]).clamp_(lower, upper)
            proposed[row, part] = moved
            logits = problem.logits(proposed.view(-1, *images.shape[1:]))
            proposed_loss = problem.sign * log_odds(logits, classes)
            fooled = problem.fooled(logits, rows)
            live, least = walking[rows], loss[rows]
            kept = live & (fooled | (proposed_loss < least))
            parts[rows, part] = torch.where(kept[:, None], moved, now)
            loss[rows] = torch.where(kept, proposed_loss, least)
            onward = kept | (signs < 0)
            sign[rows] = torch.where(onward, 1.0, -1.0).to(sign)
            position[rows] = positions = positions + onward
            found[rows] |= live & fooled
            walking[rows] = live & ~fooled & (positions < count)
        return torch.where(found.view(-1, 1, 1, 1), best, images)

    @abstractmethod
    def _count(self, shape: tuple[int, ...]) -> int:
        """Return the number of directions of images of `shape` (m, C, H, W)."""

    @abstractmethod
    def _parts(self, images: Tensor) -> Tensor:
        """Return a view of the images (m, parts, values); each direction changes one part of an image."""

    @abstractmethod
    def _direction(self, numbers: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the directions with the given `numbers`, int64 (n,), as two tensors.

        The first tensor (n,) has the index of the part of the image that each direction changes. The second
        (n, values) has the change of the values of this part, of l2 norm 1.
        """


class SimBAAttack(WalkAttack):
    """SimBA on single values: each direction changes one channel of one pixel (Section 3.2)."""

    def _count(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[1:])

    def _parts(self, images: Tensor) -> Tensor:
        return images.view(len(images), -1, 1)

    def _direction(self, numbers: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return numbers, torch.ones_like(numbers, dtype=torch.float32)[:, None]


class SimBADCTAttack(WalkAttack):
    """SimBA-DCT: each direction is a low frequency of the cosine transform in one channel (Section 3.2).

    The directions are the lowest `frequencies` x `frequencies` of the H x W frequencies of an orthonormal
    DCT-II. `run` raises `UserError` if images have fewer rows or columns than `frequencies`.
    """

    def __init__(self, *, step: float = 0.2, queries: int = 200, frequencies: int = 8, seed: int = 0) -> None:
        super().__init__(step=step, queries=queries, seed=seed)
        check_counts(frequencies=frequencies)
        self.frequencies = frequencies

    def _count(self, shape: tuple[int, ...]) -> int:
        height, width = shape[-2:]
        if self.frequencies > min(height, width):
            raise UserError(
                f"got frequencies={self.frequencies}; legal for images of {height} x {width}: "
                f"1 to {min(height, width)}"
            )
        return shape[1] * self.frequencies**2

    def _parts(self, images: Tensor) -> Tensor:
        return images.flatten(2)

    def _direction(self, numbers: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        height, width = shape[-2:]
        down = cosines(height, numbers.device)[numbers // self.frequencies % self.frequencies]
        across = cosines(width, numbers.device)[numbers % self.frequencies]
        return numbers // self.frequencies**2, (down[:, :, None] * across[:, None, :]).flatten(1)


@lru_cache(maxsize=8)
def cosines(size: int, device: torch.device) -> Tensor:
    """Return the orthonormal DCT-II basis as a matrix, float32 (size, size).

    Row k has the values sqrt(2 / size) * cos(pi * (2 * i + 1) * k / (2 * size)) at the positions i. In row 0
    all values are sqrt(1 / size).
    """
    i = torch.arange(size, dtype=torch.float64)
    basis: Tensor = (2 / size) ** 0.5 * torch.cos(math.pi / (2 * size) * (2 * i + 1) * i[:, None])
    basis[0] = size**-0.5
    return basis.float().to(device)
