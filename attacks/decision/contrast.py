"""Attacks that reduce the contrast of images by a given share, or turn images into their negatives."""

from typing import Any, Literal

import torch
from foolbox.attacks.base import MinimizationAttack, T, raise_if_kwargs
from foolbox.distances import linf
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.attack import Transform
from blrobust.attacks.building_blocks.distances import Unmeasured
from blrobust.attacks.building_blocks.level_checks import check_not_negative
from blrobust.attacks.building_blocks.parameters import check, constructor_call
from blrobust.attacks.building_blocks.problem import checked_images

GREYS = ("middle", "mean")


class ContrastReductionAttack(Transform):
    """Moves every colour value x of an image towards a grey: (1 - epsilon) * x + epsilon * grey.

    The grey is the middle of the bounds if `towards` is "middle", as in Foolbox 1, or the mean of the image
    if it is "mean". At `epsilon` 1 the whole image is grey. Beyond 1 the image is a negative, clipped to the
    bounds. Raises `ValueError` for another value of `towards`.
    """

    distance = Unmeasured()

    def __init__(self, *, towards: Literal["middle", "mean"] = "middle") -> None:
        check("towards", towards, ", ".join(GREYS), accepted=towards in GREYS)
        self.towards = towards

    def _transform(self, images: Tensor, epsilon: float, bounds: tuple[float, float]) -> Tensor:
        check_not_negative(epsilon, images.shape[1:])
        lower, upper = bounds
        grey: float | Tensor = (lower + upper) / 2
        if self.towards == "mean":
            grey = images.mean(dim=(1, 2, 3), keepdim=True)
        return ((1 - epsilon) * images + epsilon * grey).clamp(lower, upper)


class InversionAttack(MinimizationAttack):
    """Turns an image x into its negative, lower bound + upper bound - x (Hosseini et al. 2017, section 2).

    The distance is Linf; Foolbox's class has no distance.
    """

    distance = linf

    def __repr__(self) -> str:
        return constructor_call(self)

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Return the negatives of the inputs, (m, C, H, W), without a query of the model.

        `criterion` and `early_stop` have no effect. Raises `TypeError` for unknown arguments and for inputs
        that are not a torch tensor. Raises `ValueError` for inputs of another shape or beyond the bounds.
        """
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        lower, upper = model.bounds
        found: T = restore(torch.clamp(lower + upper - images, lower, upper))
        return found
