"""What attacks share whose choices are drawn for each sample, whatever the model says."""

from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor, astensor_
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.problem import call
from blrobust.perturbations import random_numbers

T = TypeVar("T")


class PerSampleNoise(FixedEpsilonAttack, ABC):
    """A perturbation that belongs to the sample: levels and models are paired, the batch does not matter.

    What is drawn is kept on the device for the next level and model.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self._caches: dict[tuple[torch.Size, torch.device], random_numbers.Cache] = {}

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
        samples: range | None = None,
        **kwargs: Any,
    ) -> T:
        """Perturbed images (batch, C, H, W); the model is asked for its bounds only.

        `samples` are the ids of the images in the data set (default 0..batch - 1); they and `draw`
        choose the randomness. Raises ``UserError`` for an ``epsilon`` that the images cannot take.
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
        """What belongs to the samples of images of ``shape`` (C, H, W), on the CPU, a row each."""

    @abstractmethod
    def _perturb(self, images: Tensor, drawn: Tensor, epsilon: float, bounds: tuple[float, float]) -> Tensor:
        """Images (batch, C, H, W) within ``bounds``."""
