"""VAT: a perturbation in the direction in which the prediction changes fastest (Miyato et al. 2016)."""

import torch
from foolbox.criteria import Misclassification
from foolbox.distances import l2
from torch import Tensor

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.losses import others
from blrobust.attacks.building_blocks.norm_balls import BALLS
from blrobust.attacks.building_blocks.parameters import check_above_0, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.perturbations import random_numbers


class VAT(PerSampleSeed, EpsilonAttack):
    """Adds epsilon * d, where d is the unit direction in which the prediction changes fastest.

    The change of the prediction from an image x to x + r is the divergence KL(p(x) || p(x + r)) of the class
    probabilities p. A power iteration finds d (Miyato et al. 2016, algorithm 1 and section 3.3). From a
    random d, each of the `steps` steps replaces d by the normalised gradient of the divergence at r = `xi` *
    d.

    As usually computed, this gradient is 0 or noise: its factor p(x + r) - p(x) is lost to rounding on a
    confident network, and the usual xi of 1e-6 changes images by less than float32 resolves. Here the
    difference is computed from the change of the logits without cancellation, up to a positive factor that
    the normalisation removes. The default xi is far above the resolution of 16-bit images. A sample whose
    gradient is 0 keeps its last direction.

    The labels have no effect. Raises `ValueError` for a parameter that is not legal.
    """

    criteria = (Misclassification,)
    distance = l2
    stream = random_numbers.VAT

    def __init__(self, *, steps: int = 5, xi: float = 0.1, seed: int = 0) -> None:
        check_counts(steps=steps)
        check_above_0(xi=xi)
        self.steps = steps
        self.xi = xi
        self.seed = seed

    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        images, ball = problem.images, BALLS["l2"]
        numbers = self._own_numbers(problem, images[0].numel())
        direction = ball.start(numbers.view_as(images), 1)
        clean = problem.logits(images)
        for _ in range(self.steps):
            steeper = ball.steepest(self._gradient(problem, clean, direction))
            none = steeper.flatten(1).count_nonzero(dim=1) == 0
            direction = torch.where(none.view(-1, 1, 1, 1), direction, steeper)
        found = problem.clip(images + epsilon * direction)
        return ball.settle(found, images, epsilon)

    def _gradient(self, problem: Problem, clean: Tensor, direction: Tensor) -> Tensor:
        """Return the divergence's gradient at `xi` * `direction`, up to a positive factor per sample.

        `clean` are the logits (m, classes) of the unperturbed images.
        """
        with torch.enable_grad():
            x = (problem.images + self.xi * direction).requires_grad_()
            logits: Tensor = problem.model(x)
            (gradient,) = torch.autograd.grad(logits, x, change(clean, logits.detach()))
        return gradient


def change(clean: Tensor, logits: Tensor) -> Tensor:
    """Return (softmax(logits) - softmax(clean)) / (1 - p_t), where p = softmax(clean) and p_t is its maximum.

    All tensors are (m, classes), and t is the most likely class of `clean`. The result is accurate even where
    the softmax rounds to 0 and 1. It uses three quantities: w_i, the change of logit i minus the change of
    logit t; q_i = p_i / (1 - p_t), the probabilities among the classes other than t; and a = (1 - p_t) *
    sum_i q_i * expm1(w_i). With these, p_i changes by (1 - p_t) * q_i * expm1(w_i - log1p(a)), and p_t
    changes by -p_t * a / (1 + a).
    """
    top = clean.argmax(dim=1)
    rest = others(clean, top)
    q = rest.softmax(dim=1)
    odds = clean.amax(dim=1) - rest.logsumexp(dim=1)
    moved = logits - clean
    w = moved - moved.gather(1, top[:, None])
    mean = (q * w.expm1()).sum(dim=1)
    a = (-odds).sigmoid() * mean
    result = q * (w - a.log1p()[:, None]).expm1()
    result = result.scatter(1, top[:, None], (-odds.sigmoid() * mean / (1 + a))[:, None])
    return result.nan_to_num(0, 0, 0)
