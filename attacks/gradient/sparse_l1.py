"""Sparse L1 descent: projected gradient steps that change only the components with the largest gradients."""

import torch
from foolbox.distances import l1
from torch import Tensor

from blrobust.attacks.building_blocks import l1_ball
from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.losses import cross_entropy
from blrobust.attacks.building_blocks.parameters import check, check_above_0, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.perturbations import random_numbers


class SparseL1Descent(PerSampleSeed, EpsilonAttack):
    """Projected gradient ascent on the cross-entropy in L1 (Tramer & Boneh 2019).

    Each step has the L1 norm `rel_stepsize` * epsilon. It changes, by equal amounts, the colour values whose
    gradient magnitude is at least the quantile `quantile` of the image's gradient magnitudes. Values at a
    bound that the step would move out of the bounds count as having the gradient 0. Then the perturbation is
    projected onto the L1 ball of radius epsilon, and the image is clipped to the bounds. Clipping moves every
    value towards the original image, so the result stays in the ball. (A single projection onto the
    intersection of ball and bounds does not fool the model on more images.) The result is the image after the
    last step, adversarial or not.

    Foolbox's class leaves the ball by up to 0.6 % and synchronises with the device in every step.

    Raises `ValueError` for a parameter that is not legal.
    """

    stream = random_numbers.SPARSE_L1
    distance = l1

    def __init__(
        self,
        *,
        quantile: float = 0.99,
        rel_stepsize: float = 0.2,
        steps: int = 20,
        random_start: bool = False,
        seed: int = 0,
    ) -> None:
        check("quantile", quantile, "numbers from 0, below 1", accepted=0 <= quantile < 1)
        check_counts(steps=steps)
        check_above_0(rel_stepsize=rel_stepsize)
        self.quantile = quantile
        self.rel_stepsize = rel_stepsize
        self.steps = steps
        self.random_start = random_start
        self.seed = seed

    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        origin = x = problem.images
        if self.random_start:
            numbers = self._own_numbers(problem, origin[0].numel()).view_as(origin)
            x = problem.clip(origin + l1_ball.start(numbers, epsilon))
        stepsize = self.rel_stepsize * epsilon
        for _ in range(self.steps):
            step = l1_ball.steepest(_ascent(problem, x), self.quantile)
            x = problem.clip(origin + l1_ball.project(x + stepsize * step - origin, epsilon))
        return l1_ball.settle(x, origin, epsilon)


def _ascent(problem: Problem, x: Tensor) -> Tensor:
    """Return the gradient of the loss to maximise, (m, C, H, W); 0 where a step would leave the bounds."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        loss = problem.sign * cross_entropy(problem.model(x), problem.classes).sum()
        (gradient,) = torch.autograd.grad(loss, x)
    lower, upper = problem.bounds
    blocked = ((x <= lower) & (gradient < 0)) | ((x >= upper) & (gradient > 0))
    return torch.where(blocked, 0, gradient)
