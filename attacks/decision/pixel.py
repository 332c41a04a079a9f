"""The multiple-pixel attack: it sets k random pixels of an image to the minimum or maximum of the bounds."""

import numpy as np
import torch
from torch import Tensor

from blrobust.attacks.building_blocks.distances import PixelDistance
from blrobust.attacks.building_blocks.level_checks import check_pixel_count
from blrobust.attacks.building_blocks.per_sample import PerSampleNoise
from blrobust.perturbations import random_numbers


class PixelAttack(PerSampleNoise):
    """Sets k = `epsilon` random pixels, in all channels, to the minimum or the maximum of the bounds.

    Each sample has its own random order of pixels, of which the first k are changed. So the pixels that a
    smaller k changes are among those that a larger k changes. For each pixel, a fair coin chooses between
    minimum and maximum. `run` raises `UserError` unless k is a whole number from 0 to H * W.
    """

    distance = PixelDistance()

    def _draw(self, shape: torch.Size, *, draw: int, samples: range) -> Tensor:
        """Return the rank of each pixel in a random order, with a random sign, int32 (len(`samples`), H * W).

        Ranks begin at 1. The sign chooses the value of the pixel: the minimum if the sign is negative,
        otherwise the maximum.
        """
        size = shape[-2] * shape[-1]
        codes = np.empty((len(samples), size), np.int32)
        for row, sample in zip(codes, samples, strict=True):
            source = random_numbers.generator(
                stream=random_numbers.PIXEL, seed=self.seed, draw=draw, sample=sample
            )
            row[:] = (source.permutation(size) + 1) * (2 * source.integers(2, size=size) - 1)
        return torch.from_numpy(codes)

    def _perturb(self, images: Tensor, drawn: Tensor, epsilon: float, bounds: tuple[float, float]) -> Tensor:
        codes = drawn.view(len(images), 1, *images.shape[2:])
        values = torch.where(codes < 0, *bounds).to(images.dtype)
        return torch.where(codes.abs() <= check_pixel_count(epsilon, images.shape[1:]), values, images)
