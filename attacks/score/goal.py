"""What score-based attacks share: what they want of the model's logits, and how they ask for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from eagerpy.astensor import astensor_
from foolbox.attacks.base import get_criterion
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.base import Model
from torch import Tensor

ASKED = 4096  # most images per call of the model: their activations must fit the memory


@dataclass(frozen=True)
class Goal:
    """Leave ``classes``, or reach them where ``targeted``; int64 (m,), one class a sample.

    Losses fall towards the goal.
    """

    classes: Tensor
    targeted: bool

    @classmethod
    def of(cls, criterion: Any, images: Tensor) -> "Goal":
        """The goal that a Foolbox criterion (or labels) states for images (m, C, H, W).

        Raises ``ValueError`` for a criterion other than (targeted) misclassification, and where
        there is not one class for each image.
        """
        wanted = get_criterion(criterion)
        if isinstance(wanted, Misclassification):
            classes, targeted = wanted.labels.raw, False
        elif isinstance(wanted, TargetedMisclassification):
            classes, targeted = wanted.target_classes.raw, True
        else:
            raise ValueError(
                f"criterion {type(wanted).__name__}; legal for a score-based attack: Misclassification, "
                "TargetedMisclassification"
            )
        if classes.shape != images.shape[:1]:
            raise ValueError(
                f"classes of shape {tuple(classes.shape)} for {len(images)} images; legal: one for each image"
            )
        return cls(classes.to(images.device, torch.int64), targeted)

    def __getitem__(self, rows: Tensor) -> "Goal":
        """The goal of some of the samples; an index that repeats a sample is legal."""
        return Goal(self.classes[rows], self.targeted)

    def reached(self, logits: Tensor) -> Tensor:
        """Bool (m,) from logits (m, classes): does the predicted class say so?"""
        return (logits.argmax(dim=1) == self.classes) == self.targeted

    def margin(self, logits: Tensor) -> Tensor:
        """The logit of the class less the largest other one (m,), negated where targeted."""
        own, others = self._parts(logits)
        return self._signed(own - others.amax(dim=1))

    def log_odds(self, logits: Tensor) -> Tensor:
        """ln p / (1 - p) of the class's probability p (m,), negated where targeted.

        It orders as p does, but goes on falling where p has rounded to 1: a confident network has
        no plateau.
        """
        own, others = self._parts(logits)
        return self._signed(own - others.logsumexp(dim=1))

    def _parts(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The class's own logit (m,), and all logits without it (minus infinity in its place)."""
        column = self.classes[:, None]
        return logits.gather(1, column)[:, 0], logits.scatter(1, column, -torch.inf)

    def _signed(self, loss: Tensor) -> Tensor:
        return -loss if self.targeted else loss


def check_inputs(inputs: Any, model: Model) -> tuple[Tensor, Callable[[Any], Any]]:
    """The images as a tensor (m, C, H, W), and the way back to the caller's own kind of tensor.

    Raises ``ValueError`` where they have another shape or leave the model's bounds (or are NaN).
    """
    x, restore_type = astensor_(inputs)
    images: Tensor = x.raw
    if images.ndim != 4:
        raise ValueError(f"inputs of shape {tuple(images.shape)}; legal: (batch, channels, height, width)")
    lower, upper = model.bounds
    if not ((images >= lower) & (images <= upper)).all():
        raise ValueError(
            f"inputs from {images.min():g} to {images.max():g}; legal: the model's bounds, "
            f"{lower:g} to {upper:g}"
        )
    return images, restore_type


def ask(model: Model, images: Tensor) -> Tensor:
    """Logits (n, classes) of any number of images (n, C, H, W), ``ASKED`` at a time."""
    return torch.cat([model(part) for part in torch.split(images, ASKED)])


def pick(numbers: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1) as integers from 0 to ``count`` - 1."""
    # float32 can round the product up to count itself.
    return (numbers * count).long().clamp_(max=count - 1)


def coins(numbers: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) as signs, -1 or 1."""
    return torch.where(numbers < 0.5, -1.0, 1.0)
