"""The single-pixel attack: each pixel in turn, at the darkest and at the brightest value."""

from typing import Any, TypeVar

from eagerpy.astensor import astensor
from foolbox.attacks.base import MinimizationAttack, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.first_success import Oracle, checked_images, first_fooling
from blrobust.attacks.building_blocks.problem import call
from blrobust.attacks.decision.pixel import PixelDistance
from blrobust.perturbations import random_numbers

T = TypeVar("T")


class SinglePixelAttack(MinimizationAttack):
    """Set one pixel, in all channels, to the minimum of the bounds, or else to the maximum.

    The pixels come in a random order that belongs to the sample, at most ``pixels`` of them; the
    first that fools the model is returned. With all H * W pixels the search is exhaustive: no
    answer means that there is none. Narodytska & Kasiviswanathan 2017, section 3.1; the order and
    the 1,000 pixels are those of Foolbox 1.
    """

    distance = PixelDistance()

    def __init__(self, *, pixels: int = 1000, seed: int = 0) -> None:
        if pixels < 1:
            raise ValueError(f"pixels = {pixels}: the single-pixel attack tries at least 1")
        self.pixels = pixels
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.SINGLE_PIXEL)

    def __repr__(self) -> str:
        return call(self)

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        draw: int = 0,
        samples: range | tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> T:
        """Images (batch, C, H, W) with one pixel set, or as they were where none fools the model.

        `samples` are the ids of the images in the data set (default 0..batch - 1); they and `draw`
        choose the orders. Raises ``ValueError`` for inputs beyond the bounds and other criteria.
        """
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        size = images[0, 0].numel()
        order = self._numbers(
            size,
            seed=self.seed,
            draw=draw,
            samples=range(len(images)) if samples is None else samples,
            device=images.device,
        ).argsort(dim=1, stable=True)
        bounds = images.new_tensor(tuple(model.bounds))

        def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
            # (n, k, C, H * W)
            flat = images[rows].flatten(2).unsqueeze(1).expand(-1, len(candidate_ids), -1, -1)
            pixels = order[rows[:, None], candidate_ids // 2]  # (n, k)
            index = pixels.view(len(rows), -1, 1, 1).expand(*flat.shape[:3], 1)
            values = bounds[candidate_ids % 2].view(1, -1, 1, 1).expand(index.shape)
            return flat.scatter(3, index, values).view(len(rows), -1, *images.shape[1:])

        tries = 2 * min(self.pixels, size)
        found, _ = first_fooling(Oracle(model, criterion), images, make, tries)
        return restore(astensor(found))
