"""Carlini & Wagner's attack and EAD: Foolbox's, without the black images."""

from typing import Any, TypeVar

import torch
from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
from foolbox.attacks.ead import EADAttack
from foolbox.models.base import Model
from torch import Tensor

T = TypeVar("T")


def _untouched(found: Any, inputs: Any) -> Any:
    """Foolbox returns zeros where it finds nothing, and a black image is mostly misclassified."""
    none: Tensor = found.flatten(1).count_nonzero(dim=1) == 0
    return torch.where(none.view(-1, 1, 1, 1), inputs, found)


class CarliniWagner(L2CarliniWagnerAttack):
    """Carlini & Wagner 2017 in L2; a sample without an adversarial comes back as it was."""

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (m, C, H, W) nearest to the inputs among the adversarials found."""
        found = super().run(model, inputs, criterion, early_stop=early_stop, **kwargs)
        result: T = _untouched(found, inputs)
        return result


class EAD(EADAttack):
    """The elastic-net attack of Chen et al. 2018; a sample without an adversarial comes back as it was."""

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (m, C, H, W) nearest to the inputs among the adversarials found."""
        found = super().run(model, inputs, criterion, early_stop=early_stop, **kwargs)
        result: T = _untouched(found, inputs)
        return result
