"""Gaussian and uniform noise of a given width, with the same random numbers as `blrobust noise`."""

import torch
from torch import Tensor

from blrobust.attacks.building_blocks.distances import Unmeasured
from blrobust.attacks.building_blocks.per_sample import PerSampleNoise
from blrobust.perturbations import random_numbers


class _FixedNoiseAttack(PerSampleNoise):
    """Returns images x + epsilon * z, clipped to the bounds; a subclass draws the random numbers z."""

    distance = Unmeasured()

    def _perturb(self, images: Tensor, drawn: Tensor, epsilon: float, bounds: tuple[float, float]) -> Tensor:
        return (images + epsilon * drawn).clamp(*bounds)


class GaussianNoiseAttack(_FixedNoiseAttack):
    """Adds Gaussian noise of the standard deviation `epsilon` and clips to the bounds."""

    def _draw(self, shape: torch.Size, *, draw: int, samples: range) -> Tensor:
        return random_numbers.standard_normal(shape, seed=self.seed, draw=draw, samples=samples)


class UniformNoiseAttack(_FixedNoiseAttack):
    """Adds uniform noise from [-epsilon, epsilon) and clips to the bounds."""

    def _draw(self, shape: torch.Size, *, draw: int, samples: range) -> Tensor:
        return random_numbers.uniform(shape, seed=self.seed, draw=draw, samples=samples)
