"""Checks of the perturbed inputs that an attack returns."""

import math
from typing import Any

import torch
from torch import Tensor

from blrobust.attacks.status import Status
from blrobust.perturbations.input_space import Space

TOLERANCE = 1e-6  # the accepted excess of a distance, relative to the level
SPACING = 2.0**-24  # the most that rounding of x + delta adds to |delta|, float32 up to 1


class Checks:
    """Checks that inputs in `space` are finite, within its bounds, and near enough to the unperturbed inputs.

    Distances are measured by the `distance` of `attack`; `norm` is the name of the norm.
    """

    def __init__(self, attack: Any, *, norm: str, space: Space) -> None:
        self._attack = attack
        self._norm = norm
        self._space = space

    def validate(self, inputs: Tensor, found: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        """Return the inputs to evaluate (m, C, H, W) and their status so far, uint8 (m,).

        `found` are the inputs that the attack returned. An input that is not finite, beyond the bounds or
        farther than `limit` from its unperturbed input is replaced by the latter.
        """
        lower, upper = self._space.bounds
        status = torch.full_like(inputs[:, 0, 0, 0], Status.ADVERSARIAL, dtype=torch.uint8)
        status.masked_fill_(self.distance(inputs, found) > limit, Status.BEYOND_EPSILON)
        outside = (found < lower) | (found > upper)
        status.masked_fill_(outside.flatten(1).any(dim=1), Status.OUT_OF_BOUNDS)
        status.masked_fill_(~found.isfinite().flatten(1).all(dim=1), Status.NOT_FINITE)
        passed = (status == Status.ADVERSARIAL).view(-1, 1, 1, 1)
        return torch.where(passed, found, inputs), status

    def limit(self, level: float, inputs: Tensor) -> float:
        """Return the largest legal distance from inputs (m, C, H, W) at `level`, rounding errors included."""
        rounding = SPACING * max(1, self._space.bounds[1])
        if self._norm == "L1":  # a sum: its rounding errors grow with the root of their number
            rounding *= math.sqrt(inputs[0].numel())
        return level * (1 + TOLERANCE) + rounding

    def distance(self, inputs: Tensor, perturbed: Tensor) -> Tensor:
        """Return the distances, float32 (m,), in the attack's norm; NaN if the attack has no distance."""
        distance = getattr(self._attack, "distance", None)
        if distance is None:
            return torch.full_like(inputs[:, 0, 0, 0], math.nan)
        result: Tensor = distance(inputs, perturbed)
        return result.float()
