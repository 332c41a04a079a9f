"""Foolbox's Boundary and HopSkipJump attacks, with an adversarial starting point for every sample."""

from dataclasses import replace
from typing import Any

import torch
from eagerpy.astensor import astensor
from eagerpy.tensor.tensor import Tensor as Wrapped
from foolbox.attacks import boundary_attack, hop_skip_jump
from torch import Tensor

from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.decision.starts import BoundaryWalk


class BoundaryAttack(BoundaryWalk, boundary_attack.BoundaryAttack):
    """Foolbox's Boundary attack (Brendel et al. 2018) with an adversarial starting point for every sample."""

    def _walk(self, model: Any, images: Tensor, criterion: Any, *, starting_points: Tensor) -> Any:
        return boundary_attack.BoundaryAttack.run(
            self, model, images, criterion, starting_points=starting_points
        )


class HopSkipJumpAttack(BoundaryWalk, hop_skip_jump.HopSkipJumpAttack):
    """Foolbox's HopSkipJump attack (Chen et al. 2020) with an adversarial starting point for every sample.

    Foolbox's class always clips to [0, 1], so images are mapped from the model's bounds to [0, 1] before the
    attack and back after it. Foolbox also divides the directions of a whole batch by one norm. Here, as in
    the paper, the direction of each sample has length 1.
    """

    def _search(self, problem: Problem) -> Tensor:
        images = problem.images
        lower, upper = problem.bounds
        scaled = ((images - lower) / (upper - lower)).clamp(0, 1)
        unit = replace(problem, model=problem.model.transform_bounds((0, 1)), images=scaled)
        found = super()._search(unit)
        changed = (found != scaled).flatten(1).any(dim=1).view(-1, 1, 1, 1)
        moved = (lower + (upper - lower) * found).clamp(lower, upper)
        return torch.where(changed, moved, images)

    def _walk(self, model: Any, images: Tensor, criterion: Any, *, starting_points: Tensor) -> Any:
        return hop_skip_jump.HopSkipJumpAttack.run(
            self, model, images, criterion, starting_points=starting_points
        )

    def approximate_gradients(self, *arguments: Any) -> Wrapped:
        """Return a direction of length 1 into the adversarial region for each sample, (m, C, H, W).

        Section III.B of the paper.
        """
        gradients = super().approximate_gradients(*arguments)
        norms = gradients.raw.flatten(1).norm(dim=1).clamp(min=1e-12)
        directions: Wrapped = astensor(gradients.raw / norms.view(-1, 1, 1, 1))
        return directions
