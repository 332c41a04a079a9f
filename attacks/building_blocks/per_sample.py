"""Base classes of attacks whose random numbers do not depend on the batch, the model or the level."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import torch
from eagerpy.astensor import astensor, astensor_
from foolbox.attacks.base import FixedEpsilonAttack, T, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.parameters import constructor_call
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.perturbations import random_numbers


class PerSampleSeed:
    """Mixin that gives an attack uniform random numbers, determined by its attributes `seed` and `stream`."""

    stream: int
    """The attack's number in `perturbations.random_numbers`, so that no two attacks share random numbers."""
    seed: int

    @cached_property
    def _uniforms(self) -> random_numbers.UniformCache:
        return random_numbers.UniformCache(self.stream)

    def _own_numbers(self, problem: Problem, count: int) -> Tensor:
        """Return a new tensor, float32 (m, count), of `count` random numbers in [0, 1) for each sample."""
        return self._uniforms(
            count,
            seed=self.seed,
            draw=problem.draw,
            samples=problem.sample_ids,
            device=problem.images.device,
        )

    def _shared_numbers(self, problem: Problem, count: int, *, step: int) -> Tensor:
        """Return `count` random numbers in [0, 1) for `step`, the same for all samples, float32 (count,)."""
        return random_numbers.common(
            count,
            stream=self.stream,
            seed=self.seed,
            draw=problem.draw,
            step=step,
            device=problem.images.device,
        )


class PerSampleNoise(FixedEpsilonAttack, ABC):
    """A random perturbation of each sample, with the same random numbers for all levels, models and batches.

    The random numbers stay in the memory of the device for the next level or model.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self._caches: dict[tuple[torch.Size, torch.device], random_numbers.Cache] = {}

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
        samples: range | None = None,
        **kwargs: Any,
    ) -> T:
        """Return the perturbed images (m, C, H, W); only the model's bounds are used.

        `samples` are the positions of the images in the data set, by default 0 to m - 1, and `draw` is the
        index of a repetition. These two and the seed determine the random numbers. Raises `TypeError` for
        unknown arguments. Raises `UserError` for an `epsilon` that is not legal for images of this size.
        """
        raise_if_kwargs(kwargs)
        x, restore_type = astensor_(inputs)
        images: Tensor = x.raw
        shape, device = images.shape[1:], images.device

        def make(draw: int, samples: range) -> Tensor:
            return self._draw(shape, draw=draw, samples=samples).to(device)

        cache = self._caches.setdefault((shape, device), random_numbers.Cache(make))
        drawn = cache.block(draw, range(len(images)) if samples is None else samples)
        return restore_type(astensor(self._perturb(images, drawn, epsilon, model.bounds)))

    @abstractmethod
    def _draw(self, shape: torch.Size, *, draw: int, samples: range) -> Tensor:
        """Return the random numbers for images of `shape` (C, H, W), one row for each sample, on the CPU."""

    @abstractmethod
    def _perturb(self, images: Tensor, drawn: Tensor, epsilon: float, bounds: tuple[float, float]) -> Tensor:
        """Return images (m, C, H, W) within `bounds`, perturbed by `drawn`, the result of `_draw`."""
