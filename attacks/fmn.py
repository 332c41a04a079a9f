"""Fast minimum norm (Pintor et al. 2021): Foolbox's attacks with the projections that its paper has."""

from typing import Any

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.fast_minimum_norm import L0FMNAttack, L1FMNAttack, L2FMNAttack, LInfFMNAttack
from torch import Tensor

# The first distances tried end at the boundary of the linearised model. Of a network that is linear
# there, not beyond: without this hair more no such sample would ever be found adversarial.
BEYOND = 1 + 1e-4


class LinfFMN(LInfFMNAttack):
    """Foolbox's, which reaches beyond the boundary of a linear model too."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        """The nearest images within the distances ``epsilon`` (m,) of ``x0``."""
        return super().project(x, x0, epsilon * BEYOND)


class L1FMN(L1FMNAttack):
    """Foolbox's, which reaches beyond the boundary of a linear model too."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        """The nearest images within the distances ``epsilon`` (m,) of ``x0``."""
        return super().project(x, x0, epsilon * BEYOND)


class L2FMN(L2FMNAttack):
    """Foolbox divides the norm by itself, so its perturbation is never brought back to the ball."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        """The nearest images within the distances ``epsilon`` (m,) of ``x0``."""
        delta: Tensor = x.raw - x0.raw
        norm = delta.flatten(1).norm(dim=1).clamp(min=1e-12)
        return x0 + astensor(delta * (BEYOND * epsilon.raw / norm).clamp(max=1).view(-1, 1, 1, 1))


class L0FMN(L0FMNAttack):
    """Foolbox keeps one number too many, and raises where all of an image's numbers may change."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        """The nearest images that differ from ``x0`` in ``epsilon`` (m,) numbers."""
        delta: Tensor = (x.raw - x0.raw).flatten(1)
        order = delta.abs().argsort(dim=1, descending=True, stable=True)
        place = torch.empty_like(order).scatter_(
            1, order, torch.arange(delta.shape[1]).to(order).expand_as(order)
        )
        kept = torch.where(place < epsilon.raw[:, None], delta, 0)
        return x0 + astensor(kept.view_as(x0.raw))
