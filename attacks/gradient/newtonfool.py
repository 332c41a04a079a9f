"""NewtonFool: Newton's method on the probability of the label (Jang et al. 2017)."""

from typing import Any, TypeVar

import torch
from foolbox.attacks.base import MinimizationAttack, raise_if_kwargs
from foolbox.distances import l2
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.gradient_scaling import power_of_two
from blrobust.attacks.building_blocks.losses import log_odds
from blrobust.attacks.building_blocks.problem import Problem, check_counts

T = TypeVar("T")


class NewtonFool(MinimizationAttack):
    """Descend the label's probability p by Newton's step, until another class wins.

    x <- x - delta g / |g|^2 with g the gradient of p and delta = min(``stepsize`` |x_0| |g|, p - 1/C), C
    classes: Jang et al. 2017, section 4. A step is min(``stepsize`` |x_0|, (p - 1/C) / |g|) long. Where
    the network is sure, p rounds to 1 and g to 0, and the formula as written divides 0 by 0 (as
    Foolbox's does, whose squared norms underflow early); so g = p (1 - p) h is taken from the gradient
    h of the log-odds of p, which does not vanish.

    Raises ``ValueError`` for a parameter that is not legal.
    """

    distance = l2

    def __init__(self, *, steps: int = 100, stepsize: float = 0.01) -> None:
        check_counts(steps=steps)
        if not stepsize > 0:
            raise ValueError(f"stepsize must be above 0, got {stepsize!r}")
        self.steps = steps
        self.stepsize = stepsize

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (m, C, H, W): where the label first lost, or as they were where it never did.

        Raises ``ValueError`` for a criterion other than ``Misclassification`` or images beyond the
        bounds.
        """
        raise_if_kwargs(kwargs)
        problem = Problem.of(self, model, inputs, criterion, targeted=False)
        found = problem.images.clone()
        limit = self.stepsize * found.flatten(1).norm(dim=1)
        rows = torch.arange(len(found), device=found.device)
        x, done = found, torch.zeros_like(rows, dtype=torch.bool)
        for count in range(self.steps + 1):
            labels = problem.classes[rows]
            step, fooled = self._step(problem, x, labels, limit[rows])
            done = done | fooled
            if count == self.steps or should_check(count, rows):
                found[rows[done]] = x[done]
                x, step, rows, done = x[~done], step[~done], rows[~done], done[~done]
                if len(rows) == 0:
                    break
            x = torch.where(done.view(-1, 1, 1, 1), x, problem.clip(x + step))
        return found  # type: ignore[return-value]

    def _step(self, problem: Problem, x: Tensor, labels: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step from x (k, C, H, W), and who is fooled there (k,)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits: Tensor = problem.model(x)
            odds = log_odds(logits, labels)
            (h,) = torch.autograd.grad(odds.sum(), x)
        odds = odds.detach()
        h = h.nan_to_num(0, 0, 0)
        factor = power_of_two(h)
        scaled = h * factor  # its squares do not underflow
        norm = scaled.flatten(1).norm(dim=1)
        slope = odds.sigmoid() * (-odds).sigmoid() * norm / factor.view(-1)  # |g|
        excess = (odds.sigmoid() - 1 / logits.shape[1]).clamp(min=0)
        length = torch.minimum(limit, excess / slope).nan_to_num(0)  # 0 / 0: at chance without a slope
        direction = -scaled / norm.clamp(min=0.5).view(-1, 1, 1, 1)  # at least 1/2, or all 0
        return length.view(-1, 1, 1, 1) * direction, problem.fooled(logits.detach(), labels)
