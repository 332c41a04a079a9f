"""The multiple-pixel attack: k random pixels of an image go to the darkest or the brightest value."""

from typing import Any, TypeVar

import numpy as np
import torch
from eagerpy.astensor import astensor, astensor_, astensors_
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.distances import Distance
from foolbox.models.base import Model
from torch import Tensor

from blrobust import draws
from blrobust.errors import UserError

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


class PixelAttack(FixedEpsilonAttack):
    """Set k = ``epsilon`` random pixels, in all channels, to the minimum or maximum of the bounds.

    The pixels are drawn without replacement, the value of each by an independent fair coin; one
    trial. Both belong to the sample: its first k pixels of one random order, its coins. So the
    pixels of a larger k contain those of a smaller one, and the batch does not matter.
    """

    distance = PixelDistance()

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self._caches: dict[tuple[int, torch.device], draws.Cache] = {}

    def __repr__(self) -> str:
        return f"PixelAttack(seed={self.seed})"

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
        """Images (batch, C, H, W) with ``epsilon`` pixels set; the model is asked for its bounds only.

        ``samples`` are the images' places in the data set (default 0..batch - 1); they and ``draw``
        choose the randomness. Raises ``UserError`` where ``epsilon`` is no whole number of pixels
        from 0 to H * W.
        """
        raise_if_kwargs(kwargs)
        x, restore_type = astensor_(inputs)
        images: Tensor = x.raw
        batch, _, height, width = images.shape
        count = check_count(epsilon, images.shape[1:])
        cache = self._cache(height * width, images.device)
        codes = cache.block(draw, range(batch) if samples is None else samples)
        lower, upper = model.bounds
        values = torch.where(codes < 0, lower, upper).to(images.dtype)
        grid = (batch, 1, height, width)
        chosen = (codes.abs() <= count).view(grid)
        return restore_type(astensor(torch.where(chosen, values.view(grid), images)))

    def _cache(self, size: int, device: torch.device) -> draws.Cache:
        """The codes of images of ``size`` pixels: place in the order, from 1; negative for tails."""

        def make(draw: int, samples: range) -> Tensor:  # int32 (len(samples), size)
            codes = np.empty((len(samples), size), np.int32)
            for row, sample in zip(codes, samples, strict=True):
                source = draws.generator(stream=draws.PIXEL, seed=self.seed, draw=draw, sample=sample)
                row[:] = (source.permutation(size) + 1) * (2 * source.integers(2, size=size) - 1)
            return torch.from_numpy(codes).to(device)

        return self._caches.setdefault((size, device), draws.Cache(make))
