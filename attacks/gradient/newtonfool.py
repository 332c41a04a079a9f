"""NewtonFool: Newton's method on the probability of the label (Jang et al. 2017)."""

import torch
from foolbox.criteria import Misclassification
from foolbox.distances import l2
from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.gradient_scaling import power_of_two
from blrobust.attacks.building_blocks.losses import log_odds
from blrobust.attacks.building_blocks.parameters import check_above_0, check_counts
from blrobust.attacks.building_blocks.problem import Problem


class NewtonFool(MinimalAttack):
    """Lowers the label's probability p by Newton steps, until the model predicts another class.

    A step is x <- x - delta * g / |g|^2 with delta = min(`stepsize` * |x_0| * |g|, p - 1/C), where g is the
    gradient of p, x_0 the original image and C the number of classes (Jang et al. 2017, section 4). So the
    length of a step is min(`stepsize` * |x_0|, (p - 1/C) / |g|). On a confident network p rounds to 1 and g
    to 0. The formula as written, which Foolbox's class uses, then divides 0 by 0. Here g is computed as p *
    (1 - p) * h, where h is the gradient of the log-odds of p, which does not vanish.

    The result is the first image with another prediction; a sample without one is returned unchanged. Raises
    `ValueError` for a parameter that is not legal.
    """

    criteria = (Misclassification,)
    distance = l2

    def __init__(self, *, steps: int = 100, stepsize: float = 0.01) -> None:
        check_counts(steps=steps)
        check_above_0(stepsize=stepsize)
        self.steps = steps
        self.stepsize = stepsize

    def _search(self, problem: Problem) -> Tensor:
        found = problem.images.clone()
        limit = self.stepsize * found.flatten(1).norm(dim=1)
        rows = torch.arange(len(found), device=found.device)
        x, done = found, torch.zeros_like(rows, dtype=torch.bool)
        for count in range(self.steps + 1):
            step, fooled = self._step(problem, x, rows, limit[rows])
            done = done | fooled
            if count == self.steps or should_check(count, rows):
                found[rows[done]] = x[done]
                x, step, rows, done = x[~done], step[~done], rows[~done], done[~done]
                if len(rows) == 0:
                    break
            x = torch.where(done.view(-1, 1, 1, 1), x, problem.clip(x + step))
        return found

    def _step(self, problem: Problem, x: Tensor, rows: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Newton step from x (k, C, H, W), and bool (k,): whether x fools the model.

        `rows` (k,) are the indices of the samples, `limit` (k,) is the largest length of their steps.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits: Tensor = problem.model(x)
            odds = log_odds(logits, problem.classes[rows])
            (h,) = torch.autograd.grad(odds.sum(), x)
        odds = odds.detach()
        h = h.nan_to_num(0, 0, 0)
        factor = power_of_two(h)
        scaled = h * factor  # its squares do not underflow
        norm = scaled.flatten(1).norm(dim=1)
        slope = odds.sigmoid() * (-odds).sigmoid() * norm / factor.view(-1)  # |g|
        excess = (odds.sigmoid() - 1 / logits.shape[1]).clamp(min=0)
        length = torch.minimum(limit, excess / slope).nan_to_num(0)  # 0 / 0: p is 1/C and g is 0
        direction = -scaled / norm.clamp(min=0.5).view(-1, 1, 1, 1)  # `norm` is 0 or at least 0.5
        return length.view(-1, 1, 1, 1) * direction, problem.fooled(logits.detach(), rows)
