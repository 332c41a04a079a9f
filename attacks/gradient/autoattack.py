"""AutoAttack itself: the package pyautoattack as one attack (Croce & Hein 2020)."""

import logging
import sys
from typing import Any, Literal, TypeVar

import torch
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.distances import Distance
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.norm_balls import BALLS, check_norm
from blrobust.attacks.building_blocks.problem import Problem, call, check_counts
from blrobust.errors import UserError

T = TypeVar("T")

MEMBERS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
NORMS = {"linf": "Linf", "l2": "L2"}
LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}  # for the third and the fourth logit in their losses


class AutoAttack(FixedEpsilonAttack):
    """The package's attacks in turn, each on the samples that those before it have left.

    Croce & Hein 2020. ``attacks`` are names of ``MEMBERS`` joined by ``+``; ``steps`` are
    those of each run of Auto-PGD and FAB, ``targets`` the runs of their targeted forms (all wrong
    classes, where there are fewer), ``queries`` Square's. The rest is set as in the package's version
    "standard", which the defaults are. Raises ``ValueError`` for a parameter that is not legal,
    ``UserError`` where the package is not installed.
    """

    def __init__(
        self,
        *,
        norm: Literal["linf", "l2"] = "linf",
        attacks: str = "apgd-ce+apgd-t+fab-t+square",
        steps: int = 100,
        targets: int = 9,
        queries: int = 5000,
    ) -> None:
        check_norm(norm)
        check_counts(steps=steps, targets=targets, queries=queries)
        self.norm = norm
        self.attacks = attacks
        self._members = attacks.split("+")  # a comma would end the value in --set
        if not set(self._members) <= set(MEMBERS):
            raise ValueError(f"attacks {attacks!r}; legal, joined by '+': {', '.join(MEMBERS)}")
        self.steps = steps
        self.targets = targets
        self.queries = queries
        try:
            import pyautoattack
        except ImportError as error:
            raise UserError(
                "the package pyautoattack is not installed; pip install 'blrobust[autoattack]'"
            ) from error
        self._package: Any = pyautoattack

    def __repr__(self) -> str:
        return call(self)

    @property
    def distance(self) -> Distance:
        """The norm's."""
        return BALLS[self.norm].distance

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Images (m, C, H, W) within ``epsilon`` that fool the model, or as they were.

        The package works on [0, 1], to which the model's bounds are mapped. Raises ``ValueError`` for
        another criterion than ``Misclassification`` and images beyond the bounds, ``UserError`` for
        too few classes.
        """
        raise_if_kwargs(kwargs)
        problem = Problem.of(self, model, inputs, criterion, targeted=False)
        lower, upper = model.bounds
        width = upper - lower

        def logits(images: Tensor) -> Tensor:
            answer: Tensor = model(lower + width * images)
            return answer

        classes = problem.logits(problem.images[:1]).shape[1]
        for name in self._members:
            least = LEAST_CLASSES.get(name, 2)
            if classes < least:
                raise UserError(f"{name} needs at least {least} classes, the model has {classes}")
        seed = int(torch.randint(1 << 31, ()))
        adversary = self._adversary(
            logits, epsilon / width, device=problem.images.device, targets=classes - 1, seed=seed
        )
        # It traces the interpreter in search of gradients inside the model, and stops all tracing then;
        # and it seeds the generators of all devices.
        trace = sys.gettrace()
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        devices = range(torch.cuda.device_count()) if used else []
        try:
            with torch.random.fork_rng(devices=devices):
                images = (problem.images - lower) / width
                found, _ = adversary.run_standard_evaluation(images, problem.classes)
        finally:
            sys.settrace(trace)
        # What rounding has added on the way to [0, 1] and back is taken off again.
        ball = BALLS[self.norm]
        change = ball.project(lower + width * found - problem.images, epsilon)
        near = problem.clip(problem.images + change)
        return ball.settle(near, problem.images, epsilon)  # type: ignore[return-value]

    def _adversary(self, model: Any, epsilon: float, *, device: torch.device, targets: int, seed: int) -> Any:
        """The package's own object, set and silent."""
        silent = logging.Logger("pyautoattack")
        silent.disabled = True
        shared = {"norm": NORMS[self.norm], "eps": epsilon, "device": device, "seed": seed}
        adversary = self._package.AutoAttack(model, attacks=self._members, version="custom", **shared)
        adversary.logger = silent
        # Their constructors compute from the steps when the step size may be halved.
        shared |= {"n_iter": self.steps, "logger": silent}
        adversary.apgd = type(adversary.apgd)(model, **shared)
        adversary.apgd_targeted = type(adversary.apgd_targeted)(model, **shared)
        adversary.apgd_targeted.n_target_classes = min(self.targets, targets)
        adversary.fab.n_target_classes = min(self.targets, targets)
        adversary.fab.n_iter = self.steps
        adversary.fab.n_restarts = 1
        adversary.square.n_queries = self.queries
        return adversary
