"""The problem that an attack solves: images, a model, and for each image a class to leave or to reach."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from eagerpy.astensor import astensor, astensor_
from foolbox.attacks.base import get_criterion
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.base import Model
from torch import Tensor

Criterion = Misclassification | TargetedMisclassification
Restore = Callable[[Tensor], Any]
"""Converts a tensor to the kind of tensor that the caller uses."""

CRITERIA: tuple[type[Criterion], ...] = (Misclassification, TargetedMisclassification)


@dataclass(frozen=True)
class Problem:
    """Images (m, C, H, W) within the model's bounds, each with a class to leave or to reach.

    The class in `classes`, int64 (m,), is to be left, or to be reached where `targeted`. `sample_ids`
    are the ids of the images in the data set; they and `draw` choose an attack's own random numbers.
    `restore` converts a tensor to the caller's kind of tensor.
    """

    model: Model
    images: Tensor
    classes: Tensor
    targeted: bool
    sample_ids: Sequence[int]
    draw: int
    restore: Restore

    @classmethod
    def of(
        cls,
        model: Model,
        inputs: Any,
        criterion: Any,
        *,
        legal: tuple[type[Criterion], ...] = CRITERIA,
        draw: int = 0,
        samples: Sequence[int] | None = None,
    ) -> "Problem":
        """Check the arguments of an attack's `run`; `criterion` may be labels (m,), too.

        `samples` are the ids of the images in the data set, by default 0..m - 1. Raises `TypeError`
        and `ValueError` as `checked_images` does, and `ValueError` for a criterion that is not
        `legal` or has another number of classes than there are images.
        """
        images, restore = checked_images(inputs, model)
        wanted = get_criterion(criterion)
        if not isinstance(wanted, legal):
            names = ", ".join(each.__name__ for each in legal)
            raise ValueError(f"got the criterion {type(wanted).__name__}; legal: {names}")
        classes: Tensor
        if isinstance(wanted, TargetedMisclassification):
            classes, targeted = wanted.target_classes.raw, True
        else:
            classes, targeted = wanted.labels.raw, False
        if classes.shape != images.shape[:1]:
            raise ValueError(
                f"got classes of shape {tuple(classes.shape)} for {len(images)} images; "
                "legal: one for each image"
            )
        ids = range(len(images)) if samples is None else samples
        return cls(model, images, classes.to(images.device, torch.int64), targeted, ids, draw, restore)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest legal number of an image."""
        lower, upper = self.model.bounds
        return lower, upper

    @property
    def sign(self) -> float:
        """-1 if the classes are to be reached, 1 if they are to be left.

        An attack succeeds by lowering the product of this sign and the margin of the class.
        """
        return -1.0 if self.targeted else 1.0

    def clip(self, images: Tensor) -> Tensor:
        """Return `images` clipped to the bounds."""
        return images.clamp(*self.model.bounds)

    def logits(self, images: Tensor) -> Tensor:
        """Return the model's logits (n, classes) of images (n, C, H, W), without a graph."""
        with torch.no_grad():
            logits: Tensor = self.model(images.detach())
        return logits

    def fooled(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return bool (n,): whether logits (n, classes) of the samples `rows` (n,) mean success.

        `rows` are all samples by default; a row may occur several times. Logits that are not finite
        predict no class, as in `blrobust.perturbations.base.predict`.
        """
        classes = self.classes if rows is None else self.classes[rows]
        finite = torch.linalg.vector_norm(logits, torch.inf, dim=1) < torch.inf  # isfinite is slow
        prediction = torch.where(finite, logits.argmax(dim=1), -1)
        return prediction == classes if self.targeted else prediction != classes

    def criterion(self, rows: Tensor) -> Criterion:
        """Return Foolbox's criterion for the samples with the indices `rows`, int64 (n,)."""
        kind = TargetedMisclassification if self.targeted else Misclassification
        return kind(self.classes[rows])


def checked_images(inputs: Any, model: Model) -> tuple[Tensor, Restore]:
    """Return `inputs` as a torch tensor (m, C, H, W), and the conversion back to the caller's kind.

    Raises `TypeError` unless they are a torch tensor, plain or wrapped by eagerpy, `ValueError` where
    they have another number of dimensions or a number is NaN or beyond the model's bounds.
    """
    wrapped, restore_type = astensor_(inputs)
    images = wrapped.raw
    if not isinstance(images, Tensor):
        raise TypeError(f"got images of type {type(images).__name__}; legal: a torch tensor")
    if images.ndim != 4:
        raise ValueError(
            f"got images of shape {tuple(images.shape)}; legal: (batch, channels, height, width)"
        )
    lower, upper = model.bounds
    if not ((images >= lower) & (images <= upper)).all():
        least, largest = (number.item() for number in images.aminmax())
        raise ValueError(
            f"got images from {least:g} to {largest:g}; legal: the model's bounds, {lower:g} to {upper:g}"
        )
    return images, lambda tensor: restore_type(astensor(tensor))
