"""The multiple-pixel attack: k random pixels of an image go to the darkest or the brightest value."""

from typing import TypeVar

import numpy as np
import torch
from eagerpy.astensor import astensor, astensors_
from foolbox.distances import Distance
from torch import Tensor

from blrobust.attacks.building_blocks.per_sample import PerSampleNoise
from blrobust.errors import UserError
from blrobust.perturbations import random_numbers

T = TypeVar("T")


def check_count(strength: float, shape: tuple[int, ...]) -> int:
    """``strength`` as a number of pixels of an image of ``shape`` (C, H, W).

    Raises ``UserError`` where it is no whole number or more than the H * W pixels there are.
    """
    height, width = shape[-2:]
    if strength != int(strength) or not 0 <= strength <= height * width:
        raise UserError(
            f"strength {strength:g}: the pixel attack takes a whole number of pixels from 0 to "
            f"{height * width}, all that an image of {height} x {width} has"
        )
    return int(strength)


class PixelDistance(Distance):
    """L0 in pixels: at how many positions does any channel truly differ?"""

    def __call__(self, references: T, perturbed: T) -> T:
        """Distances (batch,) between images (batch, C, H, W)."""
        (x, y), restore_type = astensors_(references, perturbed)
        differs: Tensor = (x.raw != y.raw).any(dim=1)  # (batch, H, W)
        return restore_type(astensor(differs.flatten(1).sum(dim=1).float()))

    def clip_perturbation(self, references: T, perturbed: T, epsilon: float) -> T:
        """``perturbed`` as it is: which pixels to give back is not the distance's to choose.

        Raises ``NotImplementedError`` where more than ``epsilon`` pixels differ.
        """
        distances = astensor(self(references, perturbed))
        if (distances > epsilon).any().item():
            raise NotImplementedError(f"more than {epsilon:g} pixels differ")
        return perturbed


class PixelAttack(PerSampleNoise):
    """Set k = ``epsilon`` random pixels, in all channels, to the minimum or maximum of the bounds.

    The pixels are drawn without replacement, the value of each by an independent fair coin; one
    trial. Both belong to the sample: its first k pixels of one random order, its coins. So the
    pixels of a larger k contain those of a smaller one. ``run`` raises ``UserError`` where k is no
    whole number of pixels from 0 to H * W.
    """

    distance = PixelDistance()

    def _draw(self, shape: torch.Size, *, draw: int, samples: range) -> Tensor:
        """Codes int32 (len(samples), H * W): place in the order, from 1; negative for tails."""
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
        return torch.where(codes.abs() <= check_count(epsilon, images.shape[1:]), values, images)
