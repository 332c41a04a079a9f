"""Attacks that ask about many candidates: the first one, in a given order, that fools the model.

All samples still open go through the model together, several candidates of each in a pass.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from eagerpy.astensor import astensor_
from foolbox.attacks.base import get_criterion
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.distances import Distance
from foolbox.models.base import Model
from torch import Tensor

T = TypeVar("T")

FIRST = 8  # candidates of a sample in the first pass; each pass doubles them, so few are asked in vain
VALUES = 2**22  # numbers in a pass of few images: 1,365 of CIFAR-10
ROUND = 2  # candidates of each image in a pass of many: each pass waits for the device once


def checked_images(inputs: T, model: Model) -> tuple[Tensor, Callable[[Any], T]]:
    """Return ``inputs`` as a tensor, and what turns an eagerpy tensor back into their kind.

    Raises ``ValueError`` where a number is not within the model's bounds.
    """
    wrapped, restore = astensor_(inputs)
    images: Tensor = wrapped.raw
    lower, upper = model.bounds
    if not ((images >= lower) & (images <= upper)).all():
        lowest, highest = (number.item() for number in images.aminmax())
        raise ValueError(
            f"inputs from {lowest:g} to {highest:g}; legal: from {lower:g} to {upper:g}, the model's bounds"
        )
    return images, restore


class Oracle:
    """Whether inputs fool ``model``: the one thing that a decision-based attack is told.

    Takes ``Misclassification`` and ``TargetedMisclassification``, or labels int64 (m,); raises
    ``ValueError`` for another criterion.
    """

    def __init__(self, model: Model, criterion: Any) -> None:
        criterion = get_criterion(criterion)
        if isinstance(criterion, Misclassification):
            self._classes: Tensor = criterion.labels.raw
        elif isinstance(criterion, TargetedMisclassification):
            self._classes = criterion.target_classes.raw
        else:
            raise ValueError(
                f"criterion {criterion!r}; legal: Misclassification and TargetedMisclassification"
            )
        self._kind = type(criterion)
        self._model = model

    def criterion(self, rows: Tensor) -> Misclassification | TargetedMisclassification:
        """The criterion of some of the samples, int64 (n,)."""
        chosen: Misclassification | TargetedMisclassification = self._kind(self._classes[rows])
        return chosen

    @torch.no_grad()
    def __call__(self, candidates: Tensor, rows: Tensor) -> Tensor:
        """Bool (n, k): which candidates (n, k, C, H, W) of the samples ``rows`` (n,) fool the model?"""
        predicted = self._model(candidates.flatten(0, 1)).argmax(-1).view(candidates.shape[:2])
        wanted = self._classes[rows].unsqueeze(1)
        return predicted == wanted if self._kind is TargetedMisclassification else predicted != wanted


class Make(Protocol):
    """What an attack tries, in order."""

    def __call__(self, rows: Tensor, candidate_ids: Tensor) -> Tensor:
        """Candidates (n, k, C, H, W) at ``candidate_ids`` (k,) of the order, for samples ``rows`` (n,)."""


def first_fooling(
    oracle: Oracle, images: Tensor, make: Make, count: int, *, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return for each of the images (m, C, H, W) its first candidate of ``count`` that fools the model.

    Also bool (m,): was there one? An image without, or not ``among`` those to try (bool (m,)), stays
    as it was. What is found for a sample does not depend on the others.
    """
    found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    result = images.clone()
    rows = torch.arange(len(images), device=images.device)
    rows = rows if among is None else rows[among]
    first, most = 0, FIRST
    while first < count and len(rows) > 0:
        room = max(ROUND * len(images), VALUES // images[0].numel()) // len(rows)
        last = min(count, first + most, first + room)
        candidates = make(rows, torch.arange(first, last, device=images.device))
        hits = oracle(candidates, rows)
        done = hits.any(dim=1)
        order = done.int().argsort(stable=True)  # those that are done last
        left = len(rows) - int(done.sum())  # the one time that this pass waits for the device
        ended, rows = order[left:], rows[order]
        first_hit = hits[ended].int().argmax(dim=1)  # the first of several
        found[rows[left:]] = True
        result[rows[left:]] = candidates[ended, first_hit]
        rows = rows[:left]
        first, most = last, 2 * most
    return result, found


class Unmeasured(Distance):
    """The distance of attacks that no norm describes, such as rotations: NaN."""

    def __repr__(self) -> str:
        return "Unmeasured()"

    def __call__(self, references: T, perturbed: T) -> T:
        """NaN (batch,)."""
        x, restore = astensor_(references)
        distances: T = restore((x[:, 0, 0, 0] * 0 + 1) * float("nan"))
        return distances

    def clip_perturbation(self, references: T, perturbed: T, epsilon: float) -> T:
        """``perturbed`` as it is: its strength is the attack's own to keep."""
        return perturbed
