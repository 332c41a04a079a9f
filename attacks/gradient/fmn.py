"""Fast minimum norm: a step along the gradient, then back into a ball that grows and shrinks.

Pintor et al. 2021. Foolbox's classes divide the L2 norm by itself, keep one number too many in L0, and
wait for the device several times a step.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.base import MinimizationAttack, raise_if_kwargs
from foolbox.attacks.fast_minimum_norm import project_onto_l1_ball
from foolbox.distances import l0, l1, l2, linf
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.losses import others
from blrobust.attacks.building_blocks.norm_balls import TINY
from blrobust.attacks.building_blocks.problem import Problem, call, check_counts

T = TypeVar("T")

# The first distance tried ends at the boundary of the linearised model. Where the network is linear it
# ends on it, and the sample does not quite fool it: so a hair more.
BEYOND = 1 + 1e-4
LAST_STEP = 0.01  # of the first one
LAST_GAMMA = 0.001
LEAD = (-1, 1, 1, 1)


class _FMN(MinimizationAttack, ABC):
    """Algorithm 1: epsilon shrinks by ``gamma`` while the sample fools the model and grows while not.

    Until a sample fools it for the first time, its epsilon is the distance to the boundary of the
    linearised model (equation 5), but grows too: where many pixels lie at a bound and cannot move, that
    boundary is farther than the gradient says, and the search would never arrive. Step size and gamma
    go along half a cosine, from ``max_stepsize`` to a hundredth of it and from ``gamma`` to 0.001.
    Raises ``ValueError`` for a parameter that is not legal.
    """

    order: float
    """Of the norm."""

    def __init__(self, *, steps: int = 100, max_stepsize: float = 1.0, gamma: float = 0.05) -> None:
        check_counts(steps=steps)
        if not (max_stepsize > 0 and 0 < gamma < 1):
            raise ValueError(
                f"max_stepsize must be above 0 and gamma within (0, 1), got {max_stepsize}, {gamma}"
            )
        self.steps = steps
        self.max_stepsize = max_stepsize
        self.gamma = gamma

    def __repr__(self) -> str:
        return call(self)

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """The nearest images (m, C, H, W) found that fool the model; a sample without one stays as it was.

        ``early_stop`` changes nothing: one search serves all strengths. Raises ``ValueError`` for another
        criterion than (targeted) misclassification and images beyond the bounds.
        """
        raise_if_kwargs(kwargs)
        problem = Problem.of(self, model, inputs, criterion, targeted=True)
        x = problem.images
        lower, upper = model.bounds
        farthest = self._length(torch.maximum(x - lower, upper - x))
        point = best = x
        delta = torch.zeros_like(x)
        shortest = farthest
        ever = torch.zeros_like(problem.classes, dtype=torch.bool)
        epsilon = self._first(farthest)
        for step in range(self.steps):
            share = (1 + math.cos(math.pi * step / self.steps)) / 2
            gamma = LAST_GAMMA + (self.gamma - LAST_GAMMA) * share
            stepsize = self.max_stepsize * (LAST_STEP + (1 - LAST_STEP) * share)
            excess, fooled, descent = _ask(problem, point)
            length = self._length(delta)
            ever |= fooled
            shorter = fooled & (length <= shortest)
            shortest = torch.where(shorter, length, shortest)
            best = torch.where(shorter.view(LEAD), point, best)
            steepness = _norm(descent, 2).clamp(min=TINY)
            boundary = length + excess.abs() / self._dual(descent, steepness).clamp(min=TINY)
            grown = self._grown(epsilon, gamma)
            larger = torch.where(ever, grown, self._untouched(grown, boundary))
            smaller = torch.minimum(self._shrunk(epsilon, gamma), shortest)
            epsilon = torch.minimum(torch.where(fooled, smaller, larger), farthest)
            delta.addcmul_(descent, (stepsize / steepness).view(LEAD))
            point = problem.clip(x + self.project(delta, epsilon))
            delta = point - x
        return best  # type: ignore[return-value]

    @abstractmethod
    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """The nearest perturbations (m, C, H, W) of the lengths ``epsilon`` (m,) or less."""

    def _length(self, delta: Tensor) -> Tensor:
        """Of perturbations (m, C, H, W), in the norm."""
        return _norm(delta, self.order)

    def _dual(self, gradient: Tensor, steepness: Tensor) -> Tensor:
        """The rate at which the loss changes along the steepest step of length 1 (m,).

        ``steepness`` (m,) is that of the Euclidean norm.
        """
        dual = {math.inf: 1.0, 1.0: math.inf}.get(self.order)
        return steepness if dual is None else _norm(gradient, dual)

    def _first(self, farthest: Tensor) -> Tensor:
        return torch.zeros_like(farthest)

    def _shrunk(self, epsilon: Tensor, gamma: float) -> Tensor:
        return epsilon * (1 - gamma)

    def _grown(self, epsilon: Tensor, gamma: float) -> Tensor:
        return epsilon * (1 + gamma)

    def _untouched(self, grown: Tensor, boundary: Tensor) -> Tensor:
        """Epsilon of what has never fooled the model."""
        return torch.maximum(boundary, grown)


class LinfFMN(_FMN):
    """The largest change of a number."""

    distance = linf
    order = math.inf

    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """Every number clipped."""
        most = (BEYOND * epsilon).view(LEAD)
        return delta.clamp(-most, most)


class L2FMN(_FMN):
    """The Euclidean norm over all channels and pixels."""

    distance = l2
    order = 2.0

    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """Scaled by min(1, epsilon / norm)."""
        return delta * (BEYOND * epsilon / self._length(delta).clamp(min=TINY)).clamp(max=1).view(LEAD)


class L1FMN(_FMN):
    """The sum of the changes of all numbers."""

    distance = l1
    order = 1.0

    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """Soft-thresholded."""
        projected: Tensor = project_onto_l1_ball(astensor(delta), astensor(BEYOND * epsilon)).raw
        return projected


class L0FMN(_FMN):
    """The count of numbers that change: epsilon moves by 1 at least."""

    distance = l0
    order = 0.0

    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """The largest ``epsilon`` changes of an image kept."""
        flat = delta.flatten(1)
        order = flat.abs().argsort(dim=1, descending=True, stable=True)
        ranks = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(1, order, ranks)
        return torch.where(rank < epsilon[:, None], flat, 0).view_as(delta)

    def _first(self, farthest: Tensor) -> Tensor:
        return torch.ones_like(farthest)

    def _shrunk(self, epsilon: Tensor, gamma: float) -> Tensor:
        return torch.minimum(epsilon - 1, super()._shrunk(epsilon, gamma).floor()).clamp(min=1)

    def _grown(self, epsilon: Tensor, gamma: float) -> Tensor:
        return torch.maximum(epsilon + 1, super()._grown(epsilon, gamma).floor())

    def _untouched(self, grown: Tensor, boundary: Tensor) -> Tensor:
        return grown


def _norm(images: Tensor, order: float) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(images.flatten(1), order, dim=1)
    return norm


def _ask(problem: Problem, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far from fooled (m,), in logits, whether it is (m,), and the direction of the steepest descent."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits: Tensor = problem.model(x)
        scores = logits.detach()
        own = problem.classes[:, None]
        other = others(scores, problem.classes).argmax(dim=1, keepdim=True)
        sign = -1.0 if problem.targeted else 1.0
        weights = torch.zeros_like(scores).scatter_(1, own, -sign).scatter_(1, other, sign)
        (descent,) = torch.autograd.grad(logits, x, weights)
    excess = sign * (scores.gather(1, own) - scores.gather(1, other))[:, 0]
    return excess, problem.fooled(scores, problem.classes), descent.nan_to_num_(0, 0, 0)
