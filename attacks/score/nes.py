"""NES: projected gradient descent on a gradient estimated from pairs of opposite random directions."""

from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.distances import linf
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.problem import call
from blrobust.attacks.score.goal import Goal, ask, check_inputs, coins
from blrobust.perturbations import random_numbers

T = TypeVar("T")


class NESAttack(FixedEpsilonAttack):
    """x <- x - ``stepsize`` epsilon sign(g), clipped to ball and bounds (Ilyas et al. 2018, Section 2).

    g = 1 / (n sigma) sum_i [L(x + sigma u_i) - L(x - sigma u_i)] u_i over n / 2 Gaussian directions
    u_i, n = ``directions`` (antithetic sampling, Section 2.1.1). L is the log-odds of the label (of the
    target, negated): the cross-entropy's gradient times a positive number, but it does not vanish
    where the network is confident.

    ``sigma`` is in units of the width of the bounds. ``stepsize`` 0.2 is the paper's 0.01 at its epsilon
    of 0.05. Each step costs ``directions`` + 1 queries.
    """

    distance = linf

    def __init__(
        self,
        *,
        steps: int = 10,
        directions: int = 20,
        sigma: float = 0.01,
        stepsize: float = 0.2,
        seed: int = 0,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps {steps}; legal: 1 or more")
        if directions < 2 or directions % 2:
            raise ValueError(f"directions {directions}; legal: even, 2 or more")
        for name, value in (("sigma", sigma), ("stepsize", stepsize)):
            if not value > 0:
                raise ValueError(f"{name} {value:g}; legal: above 0")
        self.steps = steps
        self.directions = directions
        self.sigma = sigma
        self.stepsize = stepsize
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.NES)

    def __repr__(self) -> str:
        return call(self)

    @torch.no_grad()
    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        epsilon: float,
        draw: int = 0,
        samples: range | tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> T:
        """The images (batch, C, H, W) after the last step, or the first that reached the goal.

        `samples` are the ids of the images in the data set (default 0..batch - 1); they and `draw`
        choose the directions. Raises ``ValueError`` for inputs out of bounds and other criteria.
        """
        raise_if_kwargs(kwargs)
        images, restore_type = check_inputs(inputs, model)
        goal = Goal.of(criterion, images)
        lower, upper = model.bounds
        sigma = self.sigma * (upper - lower)
        shape = images.shape[1:]
        # A sample's directions are those of the step, with signs of its own: Gaussian as before, not
        # correlated between samples, and no batch of them waits for the CPU.
        signs = coins(
            self._numbers(
                shape.numel(),
                seed=self.seed,
                draw=draw,
                samples=range(len(images)) if samples is None else samples,
                device=images.device,
            )
        ).view(images.shape)
        best = images.clone()
        rows = torch.arange(len(images), device=images.device)
        for step in range(self.steps):
            now = best[rows]
            common = self._directions(draw, step, shape).to(images.device)
            shifts = common * signs[rows][:, None]  # (n, directions / 2, C, H, W)
            probes = torch.stack([now[:, None] + sigma * shifts, now[:, None] - sigma * shifts])
            asked = rows.repeat_interleave(len(common)).repeat(2)
            loss = goal[asked].log_odds(ask(model, probes.flatten(0, 2))).view(probes.shape[:3])
            difference = (loss[0] - loss[1]).view(*shifts.shape[:2], 1, 1, 1)
            gradient = (difference * shifts).sum(dim=1)  # its sign is all that counts
            moved = now - self.stepsize * epsilon * gradient.sign()
            moved = moved.clamp(images[rows] - epsilon, images[rows] + epsilon).clamp(lower, upper)
            best[rows] = moved
            # A look at which samples are done waits for the device, once in many model calls.
            rows = rows[~goal[rows].reached(model(moved))]
            if len(rows) == 0:
                break
        return restore_type(astensor(best))  # type: ignore[no-any-return]

    def _directions(self, draw: int, step: int, shape: torch.Size) -> Tensor:
        """The step's half of the directions, N(0, 1), (directions / 2, C, H, W)."""
        source = random_numbers.generator(
            stream=random_numbers.NES, seed=self.seed, draw=draw, sample=random_numbers.STEPS + step
        )
        return torch.from_numpy(source.standard_normal((self.directions // 2, *shape), dtype="float32"))
