"""What a gradient attack is given, checked once: images, their bounds and what counts as fooled."""

from dataclasses import dataclass
from typing import Any

import torch
from foolbox.attacks.base import get_criterion
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.base import Model
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """Images (m, C, H, W) within ``bounds``, and the class (m,) to leave or, if ``targeted``, to reach."""

    model: Model
    images: Tensor
    classes: Tensor
    targeted: bool

    @classmethod
    def of(cls, attack: object, model: Model, images: Any, criterion: Any, *, targeted: bool) -> "Problem":
        """Check what ``run`` was given; ``targeted`` says whether the attack knows that kind too.

        Raises ``TypeError`` unless the images are a torch tensor, ``ValueError`` for another criterion,
        another number of labels than images, or images beyond the model's bounds.
        """
        name = type(attack).__name__
        if not isinstance(images, Tensor):
            raise TypeError(f"{name} takes images as a torch tensor, got {type(images).__name__}")
        criterion = get_criterion(criterion)
        if isinstance(criterion, Misclassification):
            classes: Tensor = criterion.labels.raw
        elif isinstance(criterion, TargetedMisclassification) and targeted:
            classes = criterion.target_classes.raw
        else:
            legal = "Misclassification or TargetedMisclassification" if targeted else "Misclassification"
            raise ValueError(f"{name} takes the criterion {legal}, got {type(criterion).__name__}")
        if classes.shape != images.shape[:1]:
            raise ValueError(f"{name} got classes of shape {tuple(classes.shape)} for {len(images)} images")
        lower, upper = model.bounds
        least, most = torch.stack(images.aminmax()).tolist() if images.numel() else (lower, upper)
        if not lower <= least <= most <= upper:
            raise ValueError(
                f"{name} got images from {least:g} to {most:g}, the model's bounds are {lower:g} to {upper:g}"
            )
        return cls(model, images, classes, isinstance(criterion, TargetedMisclassification))

    def clip(self, images: Tensor) -> Tensor:
        """``images`` within the bounds."""
        return images.clamp(*self.model.bounds)

    def logits(self, images: Tensor) -> Tensor:
        """Float32 (m, classes) without a graph."""
        with torch.no_grad():
            logits: Tensor = self.model(images.detach())
        return logits

    def fooled(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Bool (m,): is the prediction as the attack wants it? That of logits not finite is none."""
        finite = torch.linalg.vector_norm(logits, torch.inf, dim=1) < torch.inf  # isfinite is slow
        prediction = torch.where(finite, logits.argmax(dim=1), -1)
        return prediction == classes if self.targeted else prediction != classes


def check_counts(**counts: int) -> None:
    """Raise ``ValueError`` at the first count that is no whole number from 1 on."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {count!r}")


def call(attack: object) -> str:
    """The call that builds an attack whose public attributes are its parameters: its ``repr``."""
    given = {name: value for name, value in vars(attack).items() if not name.startswith("_")}
    return f"{type(attack).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
