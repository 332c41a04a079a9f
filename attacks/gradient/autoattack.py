"""AutoAttack (Croce & Hein 2020) as one attack, with the implementation of the package pyautoattack."""

import logging
import sys
from typing import Any, Literal

import torch
from foolbox.criteria import Misclassification
from foolbox.distances import Distance
from torch import Tensor

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.norm_balls import BALLS, check_norm
from blrobust.attacks.building_blocks.parameters import check, check_counts
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.errors import UserError

MEMBERS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
NORMS = {"linf": "Linf", "l2": "L2"}
LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}  # their losses use the third or the fourth largest logit


class AutoAttack(EpsilonAttack):
    """Runs the attacks of pyautoattack one after another, each on the samples that do not fool the model yet.

    Croce & Hein 2020. `attacks` is a text of names in `MEMBERS`, joined by `+`. `steps` is the number of
    steps of each run of Auto-PGD and FAB. `targets` is the number of target classes of the targeted Auto-PGD
    and FAB; if there are fewer wrong classes, all of them are used. `queries` is the number of queries of
    Square. All other settings, and the default values, are those of the package's version "standard". The
    package works on images in [0, 1], so images are mapped from the model's bounds to [0, 1] and back. A
    sample without a success is returned unchanged, up to the rounding of this map.

    Raises `ValueError` for a parameter that is not legal. Raises `UserError` if the package is not installed.
    `run` raises `UserError` for a model of too few classes.
    """

    criteria = (Misclassification,)

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
        legal = f"names joined by '+' among {', '.join(MEMBERS)}"
        check("attacks", attacks, legal, accepted=set(self._members) <= set(MEMBERS))
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

    @property
    def distance(self) -> Distance:
        """The distance measure of the attack's norm."""
        return BALLS[self.norm].distance

    @property
    def least_classes(self) -> int:
        """The smallest number of classes that the model may have, given the chosen `attacks`."""
        return max(LEAST_CLASSES.get(name, 2) for name in self._members)

    def hint_for_classes(self, classes: int) -> str | None:
        """Return a setting `attacks=...` with the attacks that are legal for `classes` classes, or None."""
        fitting = [name for name in self._members if LEAST_CLASSES.get(name, 2) <= classes]
        return f"attacks={'+'.join(fitting)}" if fitting else None

    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        lower, upper = problem.bounds
        width = upper - lower

        def logits(images: Tensor) -> Tensor:
            scores: Tensor = problem.model(lower + width * images)
            return scores

        classes = problem.logits(problem.images[:1]).shape[1]
        for name in self._members:
            least = LEAST_CLASSES.get(name, 2)
            if classes < least:
                raise UserError(f"got a model of {classes} classes; legal for {name}: at least {least}")
        seed = int(torch.randint(1 << 31, ()))
        adversary = self._adversary(
            logits, epsilon / width, device=problem.images.device, wrong_classes=classes - 1, seed=seed
        )
        # The package traces the interpreter to detect gradients inside the model, which stops all other
        # tracing; and it seeds the generators of all devices.
        trace = sys.gettrace()
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        devices = range(torch.cuda.device_count()) if used else []
        try:
            with torch.random.fork_rng(devices=devices):
                images = (problem.images - lower) / width
                found, _ = adversary.run_standard_evaluation(images, problem.classes)
        finally:
            sys.settrace(trace)
        # Rounding on the way to [0, 1] and back may have enlarged the perturbation beyond epsilon.
        ball = BALLS[self.norm]
        change = ball.project(lower + width * found - problem.images, epsilon)
        near = problem.clip(problem.images + change)
        return ball.settle(near, problem.images, epsilon)

    def _adversary(
        self, model: Any, epsilon: float, *, device: torch.device, wrong_classes: int, seed: int
    ) -> Any:
        """Return the package's own AutoAttack object, configured and without a log.

        `wrong_classes` is the number of classes of the model minus 1.
        """
        silent = logging.Logger("pyautoattack")
        silent.disabled = True
        shared = {"norm": NORMS[self.norm], "eps": epsilon, "device": device, "seed": seed}
        adversary = self._package.AutoAttack(model, attacks=self._members, version="custom", **shared)
        adversary.logger = silent
        # New objects, because the constructors compute the halvings of the step size from the number of
        # steps.
        shared |= {"n_iter": self.steps, "logger": silent}
        adversary.apgd = type(adversary.apgd)(model, **shared)
        adversary.apgd_targeted = type(adversary.apgd_targeted)(model, **shared)
        adversary.apgd_targeted.n_target_classes = min(self.targets, wrong_classes)
        adversary.fab.n_target_classes = min(self.targets, wrong_classes)
        adversary.fab.n_iter = self.steps
        adversary.fab.n_restarts = 1
        adversary.square.n_queries = self.queries
        return adversary
