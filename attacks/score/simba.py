"""SimBA: a walk along random orthonormal directions, one step up or down where that helps."""

import math
from abc import abstractmethod
from functools import lru_cache
from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.base import MinimizationAttack, raise_if_kwargs
from foolbox.distances import l2
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.problem import call
from blrobust.attacks.score.goal import Goal, check_inputs
from blrobust.errors import UserError
from blrobust.perturbations import random_numbers

T = TypeVar("T")


class WalkAttack(MinimizationAttack):
    """Add +-``step`` of one direction after the other while the score falls (Guo et al. 2019, Algorithm 1).

    The directions are orthonormal, in an order of the sample's own, without replacement. Each costs
    one query where + is kept, else two. The score is the probability of the class (of the target:
    it rises). n kept steps have an l2 norm of at most ``step`` sqrt(n), less where pixels are
    clipped (Section 3.3): the norm only grows, so the walk that ends at its first adversarial
    serves every strength.

    ``step`` is in units of the width of the bounds; ``queries`` counts every model call of a sample,
    the clean one included.
    """

    distance = l2

    def __init__(self, *, step: float = 0.2, queries: int = 200, seed: int = 0) -> None:
        if not step > 0:
            raise ValueError(f"step {step:g}; legal: above 0")
        if queries < 1:
            raise ValueError(f"queries {queries}; legal: 1 or more")
        self.step = step
        self.queries = queries
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.SIMBA)

    def __repr__(self) -> str:
        return call(self)

    @torch.no_grad()
    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        draw: int = 0,
        samples: range | tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> T:
        """The first adversarials of the walks (batch, C, H, W); a sample without one stays as it was.

        ``early_stop`` changes nothing: a walk stops at its first adversarial anyway. ``samples`` are
        the ids of the images in the data set (default 0..batch - 1); they and ``draw`` choose the
        order. Raises ``ValueError`` for inputs out of bounds and other criteria.
        """
        raise_if_kwargs(kwargs)
        images, restore_type = check_inputs(inputs, model)
        goal = Goal.of(criterion, images)
        lower, upper = model.bounds
        step = self.step * (upper - lower)
        count = self._count(images.shape)
        order = self._numbers(
            count,
            seed=self.seed,
            draw=draw,
            samples=range(len(images)) if samples is None else samples,
            device=images.device,
        ).argsort(dim=1, stable=True)
        best = images.clone(memory_format=torch.contiguous_format)
        logits = model(best)
        loss = goal.log_odds(logits)
        found = goal.reached(logits)
        walking = ~found
        position = torch.zeros_like(goal.classes)  # in the order
        sign = torch.ones_like(loss)
        rows = torch.arange(len(images), device=images.device)
        # Each sample walks at its own pace, so every query asks one question for each of them.
        for query in range(1, self.queries):
            if should_check(query - 1, rows):
                rows = walking.nonzero()[:, 0]
                if len(rows) == 0:
                    break
                row = torch.arange(len(rows), device=rows.device)
                parts, wanted = self._parts(best), goal[rows]
            signs, positions = sign[rows], position[rows]
            part, direction = self._direction(order[rows, positions.clamp(max=count - 1)], images.shape)
            # A direction changes one part of the image; the others go to the model as they are.
            asked, now = parts[rows], parts[rows, part]
            moved = torch.addcmul(now, direction, step * signs[:, None]).clamp_(lower, upper)
            asked[row, part] = moved
            logits = model(asked.view(-1, *images.shape[1:]))
            proposed_loss, reached = wanted.log_odds(logits), wanted.reached(logits)
            live, least = walking[rows], loss[rows]
            kept = live & (reached | (proposed_loss < least))
            parts[rows, part] = torch.where(kept[:, None], moved, now)
            loss[rows] = torch.where(kept, proposed_loss, least)
            onward = kept | (signs < 0)
            sign[rows] = torch.where(onward, 1.0, -1.0).to(sign)
            position[rows] = positions = positions + onward
            found[rows] |= live & reached
            walking[rows] = live & ~reached & (positions < count)
        best = torch.where(found.view(-1, 1, 1, 1), best, images)
        return restore_type(astensor(best))  # type: ignore[no-any-return]

    @abstractmethod
    def _count(self, shape: tuple[int, ...]) -> int:
        """How many directions images of ``shape`` (m, C, H, W) have."""

    @abstractmethod
    def _parts(self, images: Tensor) -> Tensor:
        """The images (m, C, H, W) as parts of which a direction changes one: a view (m, parts, values)."""

    @abstractmethod
    def _direction(self, numbers: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The parts (n,) that directions ``numbers`` int64 (n,) change, and how, of l2 norm 1 (n, values)."""


class SimBAAttack(WalkAttack):
    """SimBA over single values: each direction is one channel of one pixel (Section 3.2)."""

    def _count(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[1:])

    def _parts(self, images: Tensor) -> Tensor:
        return images.view(len(images), -1, 1)

    def _direction(self, numbers: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return numbers, torch.ones_like(numbers, dtype=torch.float32)[:, None]


class SimBADCTAttack(WalkAttack):
    """SimBA-DCT: each direction is a low frequency of the cosine transform in one channel (Section 3.2).

    The frequencies are the lowest ``frequencies`` x ``frequencies`` of the H x W there are; the
    basis is the orthonormal DCT-II.
    """

    def __init__(self, *, step: float = 0.2, queries: int = 200, frequencies: int = 8, seed: int = 0) -> None:
        super().__init__(step=step, queries=queries, seed=seed)
        if frequencies < 1:
            raise ValueError(f"frequencies {frequencies}; legal: 1 or more")
        self.frequencies = frequencies

    def _count(self, shape: tuple[int, ...]) -> int:
        if self.frequencies > min(shape[-2:]):
            raise UserError(
                f"frequencies {self.frequencies}: images of {shape[-2]} x {shape[-1]} have fewer; "
                f"legal: 1 to {min(shape[-2:])}"
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
    """The orthonormal DCT-II basis, float32 (size, size).

    Row k is sqrt(2 / size) cos(pi (2 i + 1) k / (2 size)) at i; row 0 is sqrt(1 / size).
    """
    i = torch.arange(size, dtype=torch.float64)
    basis: Tensor = (2 / size) ** 0.5 * torch.cos(math.pi / (2 * size) * (2 * i + 1) * i[:, None])
    basis[0] = size**-0.5
    return basis.float().to(device)
