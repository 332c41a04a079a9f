"""Contrast reduced by a stated share, and images turned into their negatives."""

from typing import Any, Literal, TypeVar

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.base import FixedEpsilonAttack, MinimizationAttack, raise_if_kwargs
from foolbox.distances import linf
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.first_success import Unmeasured, checked_images
from blrobust.attacks.building_blocks.problem import call
from blrobust.errors import UserError

T = TypeVar("T")

TARGETS = ("middle", "mean")


def check_share(strength: float, shape: tuple[int, ...]) -> None:
    """Raise ``UserError`` where ``strength`` is negative or no number, for images of ``shape``."""
    if not 0 <= strength < float("inf"):
        raise UserError(f"strength {strength:g}: contrast and blur take one of at least 0")


class ContrastReductionAttack(FixedEpsilonAttack):
    """Move every number the share ``epsilon`` of its way to a grey: (1 - epsilon) x + epsilon grey.

    The grey is the middle of the bounds (``towards="middle"``, as in Foolbox 1) or the mean of the
    image (``"mean"``). At 1 the image is that grey all over; beyond 1 it comes back as a negative,
    clipped to the bounds.
    """

    distance = Unmeasured()

    def __init__(self, *, towards: Literal["middle", "mean"] = "middle") -> None:
        if towards not in TARGETS:
            raise ValueError(f"towards = {towards!r}; legal: {', '.join(TARGETS)}")
        self.towards = towards

    def __repr__(self) -> str:
        return call(self)

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Images (batch, C, H, W); the model is asked for its bounds only.

        Raises ``UserError`` where ``epsilon`` is negative, ``ValueError`` for inputs beyond the bounds.
        """
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        check_share(epsilon, images.shape[1:])
        lower, upper = model.bounds
        grey: float | Tensor = (lower + upper) / 2
        if self.towards == "mean":
            grey = images.mean(dim=(1, 2, 3), keepdim=True)
        return restore(astensor(((1 - epsilon) * images + epsilon * grey).clamp(lower, upper)))


class InversionAttack(MinimizationAttack):
    """Turn the image into its negative, lower + upper - x (Hosseini et al. 2017, section 2).

    Foolbox's has no distance of its own; this one's is Linf.
    """

    distance = linf

    def __repr__(self) -> str:
        return call(self)

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (batch, C, H, W), inverted whether or not that fools the model, which is not asked.

        Raises ``ValueError`` for inputs beyond the bounds.
        """
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        lower, upper = model.bounds
        return restore(astensor(torch.clamp(lower + upper - images, lower, upper)))
