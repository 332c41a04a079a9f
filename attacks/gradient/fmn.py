"""Fast minimum norm (FMN): a gradient step, then projection onto a ball whose radius grows and shrinks.

Pintor et al. 2021. In Foolbox's classes the L2 projection has no effect because it divides the norm by
itself, the L0 projection keeps one changed value too many, and each step synchronises with the device several
times.
"""

import math
from abc import ABC, abstractmethod

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.fast_minimum_norm import project_onto_l1_ball
from foolbox.distances import l0, l1, l2, linf
from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.losses import others
from blrobust.attacks.building_blocks.norm_balls import TINY
from blrobust.attacks.building_blocks.parameters import check, check_above_0, check_counts
from blrobust.attacks.building_blocks.problem import Problem

# Factor of epsilon in projections. The first epsilon is the distance to the boundary of the linearised model.
# On a linear network such a point lies exactly on the boundary and does not fool it.
BEYOND = 1 + 1e-4
LAST_STEP = 0.01  # the last step size as a share of the first
LAST_GAMMA = 0.001
LEAD = (-1, 1, 1, 1)  # shape in which one number per sample is broadcast over images


class _FMN(MinimalAttack, ABC):
    """Algorithm 1: epsilon shrinks by the share gamma while a sample fools the model, and otherwise grows.

    Until a sample fools the model for the first time, its next epsilon is the larger of two numbers: the
    distance to the boundary of the linearised model (equation 5), and its last epsilon * (1 + gamma). The
    second number is needed if many pixels are at a bound and cannot move, because the boundary is then
    farther away than the gradient predicts. In the L0 norm only the second number is used.

    The step size falls from `max_stepsize` to a hundredth of it, and gamma falls from `gamma` to 0.001, both
    along half a cosine. The result is the nearest image found that fools the model; a sample without one is
    returned unchanged. Raises `ValueError` for a parameter that is not legal.
    """

    order: float
    """The order of the norm: 0, 1, 2 or infinity."""

    def __init__(self, *, steps: int = 100, max_stepsize: float = 1.0, gamma: float = 0.05) -> None:
        check_counts(steps=steps)
        check_above_0(max_stepsize=max_stepsize)
        check("gamma", gamma, "numbers above 0, below 1", accepted=0 < gamma < 1)
        self.steps = steps
        self.max_stepsize = max_stepsize
        self.gamma = gamma

    def _search(self, problem: Problem) -> Tensor:
        x = problem.images
        lower, upper = problem.bounds
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
            excess, fooled, descent = _evaluate(problem, point)
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
        return best

    @abstractmethod
    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """Return the nearest perturbations (m, C, H, W) whose norms are at most `epsilon` (m,)."""

    def _length(self, delta: Tensor) -> Tensor:
        """Return the norms (m,), of the attack's order, of perturbations (m, C, H, W)."""
        return _norm(delta, self.order)

    def _dual(self, gradient: Tensor, steepness: Tensor) -> Tensor:
        """Return the dual norm (m,) of `gradient`: the rate of change along the steepest step of norm 1.

        `steepness` (m,) is the Euclidean norm of the gradient. For the L2 and the L0 norm, it is the result.
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
        """Return the next epsilon (m,) of samples that have never fooled the model: the larger argument.

        `grown` is the last epsilon, enlarged by gamma; `boundary` is the distance to the boundary of the
        linearised model.
        """
        return torch.maximum(boundary, grown)


class LinfFMN(_FMN):
    """FMN in the Linf norm, the largest change of any colour value of any pixel."""

    distance = linf
    order = math.inf

    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """Return `delta` with every component clipped to a magnitude of at most `BEYOND` * `epsilon`."""
        most = (BEYOND * epsilon).view(LEAD)
        return delta.clamp(-most, most)


class L2FMN(_FMN):
    """FMN in the L2 norm over all channels and pixels."""

    distance = l2
    order = 2.0

    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """Return `delta`, scaled down to a norm of at most `BEYOND` * `epsilon`."""
        return delta * (BEYOND * epsilon / self._length(delta).clamp(min=TINY)).clamp(max=1).view(LEAD)


class L1FMN(_FMN):
    """FMN in the L1 norm, the sum of the absolute changes of all colour values."""

    distance = l1
    order = 1.0

    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """Return `delta`, projected onto the L1 ball of radius `BEYOND` * `epsilon` by soft thresholding."""
        projected: Tensor = project_onto_l1_ball(astensor(delta), astensor(BEYOND * epsilon)).raw
        return projected


class L0FMN(_FMN):
    """FMN in the L0 norm, the number of changed colour values; each step changes epsilon by at least 1."""

    distance = l0
    order = 0.0

    def project(self, delta: Tensor, epsilon: Tensor) -> Tensor:
        """Return `delta` with the `epsilon` largest changes of each image kept and the others set to 0."""
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


def _evaluate(problem: Problem, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the margins (m,) of images `x`, whether they fool the model (m,), and descent directions.

    The margin is the difference of two logits that is positive until the attack succeeds. The directions (m,
    C, H, W) are minus the gradients of the margins.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits: Tensor = problem.model(x)
        scores = logits.detach()
        own = problem.classes[:, None]
        other = others(scores, problem.classes).argmax(dim=1, keepdim=True)
        weights = torch.zeros_like(scores).scatter_(1, own, -problem.sign)
        weights.scatter_(1, other, problem.sign)
        (descent,) = torch.autograd.grad(logits, x, weights)
    excess = problem.sign * (scores.gather(1, own) - scores.gather(1, other))[:, 0]
    return excess, problem.fooled(scores), descent.nan_to_num_(0, 0, 0)
