"""The problem that an attack solves: images, a model, and for each image a class to avoid or to reach."""

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
"""Converts a torch tensor to the kind of tensor that the caller uses."""

CRITERIA: tuple[type[Criterion], ...] = (Misclassification, TargetedMisclassification)


@dataclass(frozen=True)
class Problem:
    """Images (m, C, H, W) within the model's bounds, each with a class to avoid or to reach.

    `classes`, int64 (m,), are the target classes to reach if `targeted`, otherwise the labels that the model
    should no longer predict. `sample_ids` are the positions of the images in the data set, and `draw` is the
    index of a repetition. An attack with random numbers for each sample derives these numbers from
    `sample_ids`, `draw` and its seed. `restore` converts a torch tensor to the caller's kind of tensor.
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
        """Return the problem that is given by the arguments of an attack's `run`, after checking them.

        `criterion` is a Foolbox criterion or a tensor of labels (m,). `samples` are the positions of the
        images in the data set, by default 0 to m - 1. Raises `TypeError` if `inputs` is not a torch tensor.
        Raises `ValueError` for inputs that the function `checked_images` rejects, for a criterion of a type
        that is not in `legal`, and for a number of classes that differs from the number of images.
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
        """The smallest and the largest legal colour value of an image."""
        lower, upper = self.model.bounds
        return lower, upper

    @property
    def sign(self) -> float:
        """-1 if the classes are targets to reach, 1 if they are labels to avoid.

        An attack succeeds by lowering the product of this sign and the margin of the class (its logit minus
        the largest other logit).
        """
        return -1.0 if self.targeted else 1.0

    def clip(self, images: Tensor) -> Tensor:
        """Return `images` clipped to the model's bounds."""
        return images.clamp(*self.model.bounds)

    def logits(self, images: Tensor) -> Tensor:
        """Return the model's logits (n, classes) of images (n, C, H, W), without recording gradients."""
        with torch.no_grad():
            logits: Tensor = self.model(images.detach())
        return logits

    def fooled(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return for each row of `logits` (n, classes) whether the attack succeeds, bool (n,).

        `rows` (n,) are the indices of the samples that the logits belong to, by default all samples; an index
        may occur several times. Logits that are not finite predict no class, as in
        `blrobust.perturbations.base.predict`.
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
    """Return `inputs` as a torch tensor (m, C, H, W), and a function that restores the caller's tensor type.

    Raises `TypeError` unless `inputs` is a torch tensor, plain or wrapped by eagerpy. Raises `ValueError` if
    `inputs` does not have four dimensions, or if a value is NaN or outside the model's bounds.
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
