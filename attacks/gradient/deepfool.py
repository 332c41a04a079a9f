"""DeepFool: to the nearest boundary of the linearised model, again and again."""

from abc import ABC
from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor
from foolbox.attacks import deepfool
from foolbox.attacks.base import raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.problem import Problem

T = TypeVar("T")
LOSSES = ("logits", "crossentropy")


class _DeepFool(deepfool.DeepFoolAttack, ABC):
    """Goes before a class of Foolbox that runs the model forwards for every class.

    And goes on with a batch until the last of its samples is fooled. Here a step is one forward pass and
    as many backward passes as there are other classes, and a forward pass to see who is left.
    """

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (m, C, H, W) where they first fool the model, or after the last step.

        Raises ``ValueError`` for a criterion other than ``Misclassification``, images beyond the bounds, an
        unknown loss or fewer than two classes.
        """
        raise_if_kwargs(kwargs)
        problem = Problem.of(self, model, inputs, criterion, targeted=False)
        found = problem.images.clone()
        rows = torch.arange(len(found), device=found.device)
        logits = problem.logits(found)
        count = min(self.candidates or logits.shape[1], logits.shape[1])
        if self.loss not in LOSSES or count < 2:
            legal = f"legal: {', '.join(LOSSES)}, and 2 classes or more"
            raise ValueError(f"DeepFool with the loss {self.loss!r} and {count} classes; {legal}")
        classes = logits.topk(count, dim=1).indices
        total = torch.zeros_like(found)
        for _ in range(self.steps):
            left = (~problem.fooled(logits, problem.classes[rows])).nonzero()[:, 0]
            rows, total = rows[left], total[left]
            if len(rows) == 0:
                break
            total = total + self._step(problem, found[rows], classes[rows])
            found[rows] = problem.clip(problem.images[rows] + (1 + self.overshoot) * total)
            logits = problem.logits(found[rows])
        return found  # type: ignore[return-value]

    def _step(self, problem: Problem, x: Tensor, classes: Tensor) -> Tensor:
        """From images (n, C, H, W) to the nearest boundary between the first of ``classes`` and another."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits: Tensor = problem.model(x)
            # Of cross-entropies the difference is the same.
            margins = logits.gather(1, classes[:, 1:]) - logits.gather(1, classes[:, :1])
            totals = margins.sum(dim=0).unbind()
        gradients = x.new_empty(*margins.shape, *x.shape[1:])  # (n, classes - 1, C, H, W)
        for other, total in enumerate(totals):
            again = other < len(totals) - 1
            gradients[:, other] = torch.autograd.grad(total, x, retain_graph=again)[0]
        distances: Tensor = self.get_distances(astensor(margins.detach()), astensor(gradients)).raw
        shortest, nearest = distances.min(dim=1)
        direction = gradients[torch.arange(len(x), device=x.device), nearest]
        # A little further, as Foolbox goes: for numerical stability.
        away: Tensor = self.get_perturbations(astensor(shortest + 1e-4), astensor(direction)).raw
        return away


class L2DeepFool(_DeepFool, deepfool.L2DeepFoolAttack):
    """Moosavi-Dezfooli et al. 2016, section 3, for the Euclidean norm."""


class LinfDeepFool(_DeepFool, deepfool.LinfDeepFoolAttack):
    """Moosavi-Dezfooli et al. 2016, section 3, for the largest change of a number."""
