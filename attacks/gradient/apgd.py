"""Auto-PGD: projected gradient ascent that adapts its step size by itself (Croce & Hein 2020)."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import torch
from foolbox.distances import Distance
from torch import Tensor

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.losses import (
    cross_entropy,
    likely_wrong,
    logits_ratio,
    targeted_logits_ratio,
)
from blrobust.attacks.building_blocks.norm_balls import BALLS, check_norm
from blrobust.attacks.building_blocks.parameters import check, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.perturbations import random_numbers

Objective = Callable[[Tensor, Tensor], Tensor]
"""Computes losses (k,) to maximise, from logits (k, classes) and their samples' indices (k,) in the batch."""

LOSSES = ("ce", "dlr")
MOMENTUM = 0.75  # alpha of section 3.1: the weight of the new step; the last move has the weight 1 - alpha
RISES = 0.75  # rho of section 3.2: the share of steps that must raise the loss
LEAD = (-1, 1, 1, 1)  # shape in which one number per sample is broadcast over images


def checkpoints(steps: int) -> tuple[int, ...]:
    """Return the numbers of steps, ceil(p_j * `steps`), after which the step size may be halved.

    p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06) for p_j up to 1 (section 3.2 of the
    paper). The p_j are computed in hundredths, as integers, so that they are exact.
    """
    last, share, found = 0, 22, []
    while share <= 100:
        found.append(-(-share * steps // 100))
        last, share = share, share + max(share - last - 3, 6)
    return tuple(sorted(set(found)))


@dataclass
class _Ascent:
    """State of the samples that are still attacked; every tensor has one entry per sample."""

    rows: Tensor  # int64, the indices of the samples in the batch
    origin: Tensor
    x: Tensor
    previous: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor  # infinite once the model is fooled, so that nothing replaces `best`
    value: Tensor
    step: Tensor
    rises: Tensor  # the number of steps since the last checkpoint that raised the loss
    marked: Tensor  # the best value at the last checkpoint
    halved: Tensor  # whether the step was halved at the last checkpoint

    def part(self, keep: Tensor) -> "_Ascent":
        """Return the state of the samples with the indices `keep`, int64 (k,)."""
        return _Ascent(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})

    def keep_best(self, gradient: Tensor) -> None:
        """Store the current points and their `gradient` for samples whose loss is the highest so far."""
        higher = self.value > self.best_value
        self.best = torch.where(higher.view(LEAD), self.x, self.best)
        self.best_gradient = torch.where(higher.view(LEAD), gradient, self.best_gradient)
        self.best_value = torch.where(higher, self.value, self.best_value)

    def halve(self, gradient: Tensor, *, steps: int) -> Tensor:
        """Halve the step of samples that stall and move them to their best point; return the new gradients.

        `steps` is the number of steps since the last checkpoint. A sample stalls if too few of these steps
        raised its loss. It also stalls if its step was not halved at the last checkpoint and its best loss
        has not risen since (section 3.2).
        """
        stalls = (self.rises < RISES * steps) | (~self.halved & (self.best_value == self.marked))
        self.halved, self.marked, self.rises = stalls, self.best_value, torch.zeros_like(self.rises)
        self.step = torch.where(stalls, self.step / 2, self.step)
        self.value = torch.where(stalls, self.best_value, self.value)
        self.x = torch.where(stalls.view(LEAD), self.best, self.x)
        return torch.where(stalls.view(LEAD), self.best_gradient, gradient)


class _AutoPGD(PerSampleSeed, EpsilonAttack):
    """Algorithm 1 of the paper, run from a random start with each objective of a subclass, one after another.

    The result is the first image found that fools the model. If no image does, the result is the one with the
    highest loss in the last run.
    """

    stream = random_numbers.APGD
    norm: str
    steps: int
    restarts: int

    @property
    def distance(self) -> Distance:
        """The distance measure of the attack's norm."""
        return BALLS[self.norm].distance

    @abstractmethod
    def _objectives(self, problem: Problem) -> list[Objective]:
        """Return the functions to maximise, one for each run from a random start."""

    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        found = problem.images.clone()
        objectives = self._objectives(problem)
        numbers = self._own_numbers(problem, len(objectives) * found[0].numel())
        numbers = numbers.view(len(found), len(objectives), *found.shape[1:])
        rows = torch.arange(len(found), device=found.device)
        for trial, objective in enumerate(objectives):
            start = BALLS[self.norm].start(numbers[rows, trial], epsilon)
            rows = self._ascend(problem, objective, found, rows, start, epsilon)
            if len(rows) == 0:
                break
        return BALLS[self.norm].settle(found, problem.images, epsilon)

    def _ascend(
        self,
        problem: Problem,
        objective: Objective,
        found: Tensor,
        rows: Tensor,
        start: Tensor,
        epsilon: float,
    ) -> Tensor:
        """Attack the samples `rows`, write the results into `found`, and return the rows without a success.

        `rows` (k,) are indices of samples in the batch, and `start` (k, C, H, W) are their first
        perturbations.
        """
        ball = BALLS[self.norm]

        def project(x: Tensor, origin: Tensor) -> Tensor:
            return problem.clip(origin + ball.project(x - origin, epsilon))

        origin = problem.images[rows]
        x = project(origin + start, origin)
        low = x.new_full((len(rows),), -torch.inf)
        at = _Ascent(
            rows=rows,
            origin=origin,
            x=x,
            previous=x,
            best=x,
            best_gradient=torch.zeros_like(x),
            best_value=low,
            value=-low,
            step=torch.full_like(low, 2 * epsilon),
            rises=torch.zeros_like(low),
            marked=low,
            halved=torch.zeros_like(rows, dtype=torch.bool),
        )
        checked = 0
        halvings = checkpoints(self.steps)
        for count in range(self.steps):
            value, gradient = _value_and_gradient(problem, objective, at)
            at.rises = at.rises + (value > at.value)
            at.value = value
            at.keep_best(gradient)
            if count == 0:
                at.marked = at.best_value
            elif count in halvings:
                gradient = at.halve(gradient, steps=count - checked)
                checked = count
            if should_check(count, at.rows):
                left = (at.best_value < torch.inf).nonzero()[:, 0]
                if len(left) < len(at.rows):
                    found[at.rows] = at.best
                    at, gradient = at.part(left), gradient[left]
                if len(left) == 0:
                    return left
            x = project(at.x + at.step.view(LEAD) * ball.steepest(gradient), at.origin)
            if count > 0:
                moved = torch.add(at.x.lerp(x, MOMENTUM), at.x - at.previous, alpha=1 - MOMENTUM)
                x = project(moved, at.origin)
            at.previous, at.x = at.x, x
        logits = problem.logits(at.x)
        at.value = _value(problem, at, objective(logits, at.rows), logits)
        at.keep_best(at.best_gradient)
        found[at.rows] = at.best
        return at.rows[at.best_value < torch.inf]


def _value_and_gradient(problem: Problem, objective: Objective, at: _Ascent) -> tuple[Tensor, Tensor]:
    """Return the loss (k,), infinite where the model is fooled, and the gradient (k, C, H, W) at `at.x`."""
    with torch.enable_grad():
        x = at.x.detach().requires_grad_()
        logits: Tensor = problem.model(x)
        loss = objective(logits, at.rows)
        (gradient,) = torch.autograd.grad(loss.sum(), x)
    return _value(problem, at, loss.detach(), logits.detach()), gradient


def _value(problem: Problem, at: _Ascent, loss: Tensor, logits: Tensor) -> Tensor:
    """Return the loss (k,), replaced by infinity for the samples that fool the model."""
    return loss.masked_fill(problem.fooled(logits, at.rows), torch.inf)


class APGD(_AutoPGD):
    """Auto-PGD on the cross-entropy or on the difference of logits ratio (DLR).

    Croce & Hein 2020, sections 3 and 4. DLR does not support a targeted criterion; use `TargetedAPGD`
    instead. Raises `ValueError` for a parameter that is not legal.
    """

    def __init__(
        self,
        *,
        loss: Literal["ce", "dlr"] = "ce",
        norm: Literal["linf", "l2"] = "linf",
        steps: int = 100,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        check("loss", loss, ", ".join(LOSSES), accepted=loss in LOSSES)
        check_norm(norm)
        check_counts(steps=steps, restarts=restarts)
        self.loss = loss
        self.norm = norm
        self.steps = steps
        self.restarts = restarts
        self.seed = seed

    @property
    def least_classes(self) -> int:
        """The smallest number of classes that the model may have: DLR uses the third largest logit."""
        return 3 if self.loss == "dlr" else 2

    def _objectives(self, problem: Problem) -> list[Objective]:
        classes = problem.classes
        if self.loss == "ce":
            sign = problem.sign
            return [lambda logits, rows: sign * cross_entropy(logits, classes[rows])] * self.restarts
        if problem.targeted:
            raise ValueError(
                "got the criterion TargetedMisclassification; legal for the loss dlr: Misclassification"
            )
        return [lambda logits, rows: logits_ratio(logits, classes[rows])] * self.restarts


class TargetedAPGD(_AutoPGD):
    """Auto-PGD on the targeted difference of logits ratio, towards the most likely wrong classes in turn.

    Croce & Hein 2020, section 4. `targets` is the number of these classes; if there are fewer wrong classes,
    all of them are used. The attack on a sample ends when the model predicts any wrong class. With a targeted
    criterion the only target is the criterion's class, and only a prediction of this class is a success.
    Raises `ValueError` for a parameter that is not legal.
    """

    least_classes = 4
    """The smallest number of classes that the model may have: the loss uses the fourth largest logit."""

    def __init__(
        self,
        *,
        norm: Literal["linf", "l2"] = "linf",
        targets: int = 9,
        steps: int = 100,
        restarts: int = 1,
        seed: int = 0,
    ) -> None:
        check_norm(norm)
        check_counts(targets=targets, steps=steps, restarts=restarts)
        self.norm = norm
        self.targets = targets
        self.steps = steps
        self.restarts = restarts
        self.seed = seed

    def _objectives(self, problem: Problem) -> list[Objective]:
        logits = problem.logits(problem.images)
        if problem.targeted:
            # Away from the most likely other class, which is the label until the model is fooled.
            labels = likely_wrong(logits, problem.classes, 1)[:, 0]
            wanted = [problem.classes]
        else:
            labels = problem.classes
            wanted = list(likely_wrong(logits, labels, self.targets).unbind(dim=1))

        def towards(targets: Tensor) -> Objective:
            return lambda logits, rows: targeted_logits_ratio(logits, labels[rows], targets[rows])

        return [towards(targets) for targets in wanted for _ in range(self.restarts)]
