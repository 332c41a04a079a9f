"""Foolbox's attacks of Carlini & Wagner and EAD, corrected for samples without a success."""

import math
from typing import Any

import torch
from foolbox.attacks.base import T
from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
from foolbox.attacks.ead import EADAttack
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.losses import margin
from blrobust.attacks.building_blocks.problem import Problem

INNER = 0.999999  # images are scaled to +-INNER: artanh is infinite at the bounds, +-1
PROGRESS = 0.9999  # a loss has stalled if it is above this share of its value a tenth of the steps earlier
ENOUGH = 10  # with at least this many searches, the last one takes the smallest constant that worked


class CarliniWagner(MinimalAttack, L2CarliniWagnerAttack):
    """Carlini & Wagner 2017 in L2: Adam on |x' - x|^2 + c * max(margin + `confidence`, 0).

    x is the image and x' the perturbed image, which is tanh(w) scaled to the bounds, with a free variable w.
    The margin is the logit of the label minus the largest other logit, or, with a targeted criterion, the
    largest other logit minus that of the target. The attack searches for the smallest constant c with a
    success. The result is the nearest image found that fools the model; a sample without one is returned
    unchanged.

    Foolbox's class synchronises with the device three times in each step, returns a black image for a sample
    without a success, and stops all samples of a batch together when the sum of their losses stalls. Here,
    with `abort_early`, each sample stops by itself.
    """

    def _search(self, problem: Problem) -> Tensor:
        x = best = problem.images
        lower, upper = problem.bounds
        middle, half = (lower + upper) / 2, (upper - lower) / 2
        start = ((x - middle) / half * INNER).atanh().contiguous()
        origin = middle + half * start.tanh()
        shortest = torch.full_like(x[:, 0, 0, 0], math.inf)
        const = torch.full_like(shortest, self.initial_const)
        fails, works = torch.zeros_like(shortest), shortest  # bounds of the smallest constant that works
        for search in range(self.binary_search_steps):
            if search == self.binary_search_steps - 1 and search >= ENOUGH - 1:
                const = works.clamp(max=1e10)
            change = torch.zeros_like(start)
            optimizer = torch.optim.Adam([change.requires_grad_()], self.stepsize, fused=x.is_cuda)
            found = torch.zeros_like(shortest, dtype=torch.bool)
            moving, before = ~found, torch.full_like(shortest, math.inf)
            for step in range(self.steps):
                with torch.enable_grad():
                    point = middle + half * (start + change).tanh()
                    logits: Tensor = problem.model(point)
                    excess = problem.sign * margin(logits, problem.classes) + self.confidence
                    loss = const * excess.clamp(min=0) + (point - origin).flatten(1).square().sum(dim=1)
                    (gradient,) = torch.autograd.grad(loss.sum(), change)
                change.grad = gradient.contiguous()  # the fused step needs its own layout
                point, logits, loss = point.detach(), logits.detach(), loss.detach()
                if self.abort_early and step % math.ceil(self.steps / 10) == 0:
                    moving, before = moving & (loss <= PROGRESS * before), loss
                    if not moving.any():
                        break
                fooled = moving & problem.fooled(logits) & ~(excess.detach() > 0)
                found |= fooled
                length = torch.linalg.vector_norm((point - x).flatten(1), dim=1)
                nearer = fooled & (length < shortest)
                shortest = torch.where(nearer, length, shortest)
                best = torch.where(nearer.view(-1, 1, 1, 1), point, best)
                optimizer.step()
            works, fails = torch.where(found, const, works), torch.where(found, fails, const)
            const = torch.where(works.isinf(), 10 * const, (fails + works) / 2)
        return best


class EAD(EADAttack):
    """The elastic-net attack of Chen et al. 2018 as implemented in Foolbox.

    For a sample without a success, Foolbox's class returns a black image, which is mostly misclassified. This
    class returns the unchanged image.
    """

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Return for each input (m, C, H, W) the nearest adversarial image found, or the unchanged input."""
        images: Any = inputs
        found: Any = super().run(model, inputs, criterion, early_stop=early_stop, **kwargs)
        none: Tensor = found.flatten(1).count_nonzero(dim=1) == 0
        result: T = torch.where(none.view(-1, 1, 1, 1), images, found)  # type: ignore[assignment]
        return result
