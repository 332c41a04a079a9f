"""Carlini & Wagner's attack and EAD: Foolbox's, without the black images."""

from typing import Any, TypeVar

import torch
from foolbox.attacks.base import MinimizationAttack
from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
from foolbox.attacks.ead import EADAttack
from foolbox.models.base import Model
from torch import Tensor

T = TypeVar("T")


class _Untouched(MinimizationAttack):
    """Goes before a class of Foolbox that returns zeros where it finds nothing.

    A black image is mostly misclassified; a sample without an adversarial comes back as it was.
    """

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (m, C, H, W) nearest to the inputs among the adversarials found."""
        images: Any = inputs
        found: Any = super().run(model, inputs, criterion, early_stop=early_stop, **kwargs)  # type: ignore[safe-super]
        none: Tensor = found.flatten(1).count_nonzero(dim=1) == 0
        result: T = torch.where(none.view(-1, 1, 1, 1), images, found)  # type: ignore[assignment]
        return result


class CarliniWagner(_Untouched, L2CarliniWagnerAttack):
    """Carlini & Wagner 2017 in L2."""


class EAD(_Untouched, EADAttack):
    """The elastic-net attack of Chen et al. 2018."""
