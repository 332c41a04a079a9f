"""DeepFool: repeated steps to the nearest decision boundary of the linearised model."""

from abc import ABC

import torch
from eagerpy.astensor import astensor
from foolbox.attacks import deepfool
from foolbox.criteria import Misclassification
from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.problem import Problem

LOSSES = ("logits", "crossentropy")


class _DeepFool(MinimalAttack, deepfool.DeepFoolAttack, ABC):
    """Common part of the L2 and the Linf attack, with a loop that is faster than Foolbox's.

    Foolbox's loop has a forward pass for every class, and continues with a whole batch until its last sample
    fools the model. Here a step has one forward pass, a backward pass for each candidate class but the
    predicted one, and a forward pass that checks which samples do not fool the model yet. The result is the
    first image that fools the model, or the image after the last step. `run` raises `ValueError` for an
    unknown loss or fewer than two classes.
    """

    criteria = (Misclassification,)

    def _search(self, problem: Problem) -> Tensor:
        found = problem.images.clone()
        rows = torch.arange(len(found), device=found.device)
        logits = problem.logits(found)
        count = min(self.candidates or logits.shape[1], logits.shape[1])
        if self.loss not in LOSSES or count < 2:
            raise ValueError(
                f"got the loss {self.loss!r} and {count} classes; legal: {', '.join(LOSSES)}, and 2 classes "
                "or more"
            )
        classes = logits.topk(count, dim=1).indices
        total = torch.zeros_like(found)
        for _ in range(self.steps):
            left = (~problem.fooled(logits, rows)).nonzero()[:, 0]
            rows, total = rows[left], total[left]
            if len(rows) == 0:
                break
            total = total + self._step(problem, found[rows], classes[rows])
            found[rows] = problem.clip(problem.images[rows] + (1 + self.overshoot) * total)
            logits = problem.logits(found[rows])
        return found

    def _step(self, problem: Problem, x: Tensor, classes: Tensor) -> Tensor:
        """Return the step (n, C, H, W) to the nearest boundary between the first class and another.

        `classes` (n, count) are the classes of each sample, most likely first.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits: Tensor = problem.model(x)
            # Differences of cross-entropies are the same as those of logits, so one formula serves both
            # losses.
            margins = logits.gather(1, classes[:, 1:]) - logits.gather(1, classes[:, :1])
            totals = margins.sum(dim=0).unbind()
        gradients = x.new_empty(*margins.shape, *x.shape[1:])  # (n, classes - 1, C, H, W)
        for other, total in enumerate(totals):
            again = other < len(totals) - 1
            gradients[:, other] = torch.autograd.grad(total, x, retain_graph=again)[0]
        distances: Tensor = self.get_distances(astensor(margins.detach()), astensor(gradients)).raw
        shortest, nearest = distances.min(dim=1)
        direction = gradients[torch.arange(len(x), device=x.device), nearest]
        # The added 1e-4 is for numerical stability, as in Foolbox.
        away: Tensor = self.get_perturbations(astensor(shortest + 1e-4), astensor(direction)).raw
        return away


class L2DeepFool(_DeepFool, deepfool.L2DeepFoolAttack):
    """DeepFool in the Euclidean norm (Moosavi-Dezfooli et al. 2016, section 3)."""


class LinfDeepFool(_DeepFool, deepfool.LinfDeepFoolAttack):
    """DeepFool in the Linf norm, the largest change of any colour value (Moosavi-Dezfooli et al. 2016)."""
