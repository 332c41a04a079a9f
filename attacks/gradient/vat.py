"""The virtual adversarial direction: where the prediction changes fastest (Miyato et al. 2016)."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.distances import l2
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.losses import others
from blrobust.attacks.building_blocks.norm_balls import BALLS
from blrobust.attacks.building_blocks.problem import Problem, call, check_counts
from blrobust.perturbations import random_numbers

T = TypeVar("T")


class VAT(FixedEpsilonAttack):
    """``epsilon`` times the direction d in which KL(p(x) || p(x + r)) grows fastest from r = 0.

    The power iteration d <- normalised gradient of that divergence at r = ``xi`` d, from a random d:
    Miyato et al. 2016, algorithm 1 and section 3.3. Written down plainly the gradient is 0 or noise:
    its factor p(x + r) - p(x) cancels where the network is sure, and an xi of 1e-6 changes images by
    less than float32 resolves. Here that difference comes from the logits' change without
    cancellation, up to a factor, which normalising removes, and the default xi is far above the
    resolution of 16-bit images too. A sample without any gradient keeps the last direction.

    Raises ``ValueError`` for a parameter that is not legal.
    """

    distance = l2

    def __init__(self, *, steps: int = 5, xi: float = 0.1, seed: int = 0) -> None:
        check_counts(steps=steps)
        if not xi > 0:
            raise ValueError(f"xi must be above 0, got {xi!r}")
        self.steps = steps
        self.xi = xi
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.VAT)

    def __repr__(self) -> str:
        return call(self)

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        epsilon: float,
        draw: int = 0,
        samples: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> T:
        """Images (m, C, H, W) at ``epsilon``, or nearer where the bounds clip.

        `samples` are the ids of the images in the data set (default 0..m - 1); they and `draw`
        choose the first directions. The labels only say how many images there are. Raises
        ``ValueError`` for a criterion other than ``Misclassification`` or images beyond the bounds.
        """
        raise_if_kwargs(kwargs)
        problem = Problem.of(self, model, inputs, criterion, targeted=False)
        images, ball = problem.images, BALLS["l2"]
        sample_ids = range(len(images)) if samples is None else samples
        numbers = self._numbers(
            images[0].numel(), seed=self.seed, draw=draw, samples=sample_ids, device=images.device
        )
        direction = ball.start(numbers.view_as(images), 1)
        clean = problem.logits(images)
        for _ in range(self.steps):
            steeper = ball.steepest(self._gradient(problem, clean, direction))
            none = steeper.flatten(1).count_nonzero(dim=1) == 0
            direction = torch.where(none.view(-1, 1, 1, 1), direction, steeper)
        found = problem.clip(images + epsilon * direction)
        return ball.settle(found, images, epsilon)  # type: ignore[return-value]

    def _gradient(self, problem: Problem, clean: Tensor, direction: Tensor) -> Tensor:
        """The divergence's gradient at ``xi`` times the direction, up to a positive factor per sample."""
        with torch.enable_grad():
            x = (problem.images + self.xi * direction).requires_grad_()
            logits: Tensor = problem.model(x)
            (gradient,) = torch.autograd.grad(logits, x, change(clean, logits.detach()))
        return gradient


def change(clean: Tensor, logits: Tensor) -> Tensor:
    """(softmax(logits) - softmax(clean)) / (1 - p_t), t the most likely class of ``clean`` and p_t its share.

    Both (m, classes). Accurate where the softmax itself rounds to 0 and 1: with w_i the change of
    logit i less that of t, q the shares among the other classes and a = (1 - p_t) sum_i q_i expm1(w_i),
    p_i changes by (1 - p_t) q_i expm1(w_i - log1p(a)), and p_t by -p_t a / (1 + a).
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
