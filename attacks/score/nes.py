"""NES: projected gradient descent with gradients estimated from pairs of opposite random directions."""

import torch
from foolbox.distances import linf
from torch import Tensor

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.losses import log_odds
from blrobust.attacks.building_blocks.parameters import check, check_above_0, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.score.choices import signs
from blrobust.attacks.score.queries import batched_logits
from blrobust.perturbations import random_numbers


class NESAttack(PerSampleSeed, EpsilonAttack):
    """Steps x <- x - `stepsize` * epsilon * sign(g) with an estimate g of the gradient (Ilyas et al. 2018).

    After each step x is clipped to the linf ball of radius epsilon and to the bounds. The estimate is g = 1 /
    (n * sigma) * sum_i [L(x + sigma * u_i) - L(x - sigma * u_i)] * u_i with n / 2 Gaussian directions u_i,
    where n = `directions` (antithetic sampling, Section 2.1.1). L is the log-odds of the label, or minus the
    log-odds of the target. L falls where the cross-entropy of the label rises, but its gradient does not
    vanish on a confident network. The result is the image after the last step, or the first that fools the
    model.

    `sigma` is in units of the width of the bounds. The default `stepsize` of 0.2 is the paper's 0.01 at its
    epsilon of 0.05. Each step costs `directions` + 1 queries. Raises `ValueError` for a parameter that is not
    legal.
    """

    distance = linf
    stream = random_numbers.NES

    def __init__(
        self,
        *,
        steps: int = 10,
        directions: int = 20,
        sigma: float = 0.01,
        stepsize: float = 0.2,
        seed: int = 0,
    ) -> None:
        check_counts(steps=steps)
        check(
            "directions", directions, "even numbers from 2", accepted=directions >= 2 and directions % 2 == 0
        )
        check_above_0(sigma=sigma, stepsize=stepsize)
        self.steps = steps
        self.directions = directions
        self.sigma = sigma
        self.stepsize = stepsize
        self.seed = seed

    @torch.no_grad()
    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        images = problem.images
        lower, upper = problem.bounds
        sigma = self.sigma * (upper - lower)
        # All samples share the directions of a step, multiplied by random signs of each sample. The products
        # are Gaussian and uncorrelated between samples, and the CPU draws the directions only once.
        own = signs(self._own_numbers(problem, images[0].numel())).view(images.shape)
        best = images.clone()
        rows = torch.arange(len(images), device=images.device)
        for step in range(self.steps):
            now = best[rows]
            common = self._directions(problem.draw, step, images.shape[1:]).to(images.device)
            shifts = common * own[rows][:, None]  # (n, directions / 2, C, H, W)
            probes = torch.stack([now[:, None] + sigma * shifts, now[:, None] - sigma * shifts])
            repeated = rows.repeat_interleave(len(common)).repeat(2)
            logits = batched_logits(problem, probes.flatten(0, 2))
            loss = problem.sign * log_odds(logits, problem.classes[repeated]).view(probes.shape[:3])
            difference = (loss[0] - loss[1]).view(*shifts.shape[:2], 1, 1, 1)
            gradient = (difference * shifts).sum(dim=1)  # only its sign matters
            moved = now - self.stepsize * epsilon * gradient.sign()
            moved = problem.clip(moved.clamp(images[rows] - epsilon, images[rows] + epsilon))
            best[rows] = moved
            # This check synchronises with the device, but only once for all queries of a step.
            rows = rows[~problem.fooled(problem.logits(moved), rows)]
            if len(rows) == 0:
                break
        return best

    def _directions(self, draw: int, step: int, shape: torch.Size) -> Tensor:
        """Return half of the directions of a step, drawn from N(0, 1), (directions / 2, C, H, W).

        The other half are their negatives.
        """
        source = random_numbers.generator(
            stream=self.stream, seed=self.seed, draw=draw, sample=random_numbers.STEPS + step
        )
        return torch.from_numpy(source.standard_normal((self.directions // 2, *shape), dtype="float32"))
