"""Base classes of attacks; `run` checks its arguments and returns the type of tensor that it was given."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from foolbox.attacks.base import FixedEpsilonAttack, MinimizationAttack, T, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.parameters import constructor_call
from blrobust.attacks.building_blocks.problem import CRITERIA, Criterion, Problem, checked_images


class EpsilonAttack(FixedEpsilonAttack, ABC):
    """An attack that perturbs images up to a given level, `epsilon`. A subclass implements `_search`."""

    criteria: tuple[type[Criterion], ...] = CRITERIA
    """The classes of Foolbox's criteria (untargeted, targeted) that the attack supports."""

    def __repr__(self) -> str:
        return constructor_call(self)

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
        """Return the images (m, C, H, W) that the attack finds, within the model's bounds.

        `samples` are the positions of the images in the data set, by default 0 to m - 1, and `draw` is the
        index of a repetition. An attack with random numbers for each sample derives these numbers from
        `samples`, `draw` and its seed. Raises `TypeError` for unknown arguments and for inputs that are not a
        torch tensor. Raises `ValueError` for inputs of another shape or beyond the bounds, and for a
        criterion that the attack does not support. Raises `UserError` for an `epsilon` or a parameter of the
        attack that is not legal for images of this size.
        """
        raise_if_kwargs(kwargs)
        problem = Problem.of(model, inputs, criterion, legal=self.criteria, draw=draw, samples=samples)
        found: T = problem.restore(self._search(problem, epsilon))
        return found

    @abstractmethod
    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        """Return the images that the attack finds, (m, C, H, W), at the level `epsilon`."""


class MinimalAttack(MinimizationAttack, ABC):
    """An attack that searches for the smallest perturbation. A subclass implements `_search`."""

    criteria: tuple[type[Criterion], ...] = CRITERIA
    """The classes of Foolbox's criteria (untargeted, targeted) that the attack supports."""

    def __repr__(self) -> str:
        return constructor_call(self)

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        draw: int = 0,
        samples: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> T:
        """Return the images (m, C, H, W) that the attack finds, within the model's bounds.

        `early_stop` has no effect, because the attack always searches for the smallest perturbation.
        `samples` are the positions of the images in the data set, by default 0 to m - 1, and `draw` is the
        index of a repetition. An attack with random numbers for each sample derives these numbers from
        `samples`, `draw` and its seed. Raises `TypeError` for unknown arguments and for inputs that are not a
        torch tensor. Raises `ValueError` for inputs of another shape or beyond the bounds, and for a
        criterion that the attack does not support. Raises `UserError` for a parameter of the attack that is
        not legal for images of this size.
        """
        raise_if_kwargs(kwargs)
        problem = Problem.of(model, inputs, criterion, legal=self.criteria, draw=draw, samples=samples)
        found: T = problem.restore(self._search(problem))
        return found

    @abstractmethod
    def _search(self, problem: Problem) -> Tensor:
        """Return the images that the attack finds, (m, C, H, W)."""


class Transform(FixedEpsilonAttack, ABC):
    """A change of the images that does not depend on the model: only the model's bounds are used."""

    def __repr__(self) -> str:
        return constructor_call(self)

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Return the changed images (m, C, H, W), within the model's bounds.

        `criterion` has no effect. Raises `TypeError` for unknown arguments and for inputs that are not a
        torch tensor. Raises `ValueError` for inputs of another shape or beyond the bounds. Raises `UserError`
        for an `epsilon` or a parameter of the attack that is not legal for images of this size.
        """
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        found: T = restore(self._transform(images, epsilon, model.bounds))
        return found

    @abstractmethod
    def _transform(self, images: Tensor, epsilon: float, bounds: tuple[float, float]) -> Tensor:
        """Return the changed images (m, C, H, W) at the level `epsilon`, within `bounds`."""
