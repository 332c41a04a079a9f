"""Checks of a model that cast doubt on its accuracy under attack, like AutoAttack's warnings.

They run before the attacks, on a few images that the model classifies correctly (Croce & Hein 2020;
Tramer et al. 2020). Whether an attack without gradients beats one with them is a check of the results.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blrobust.attacks.counting_model import CountingModel, gives_gradients
from blrobust.attacks.status import NO_GRADIENTS as NO_GRADIENTS
from blrobust.errors import UserError, describe
from blrobust.perturbations.base import predict
from blrobust.perturbations.input_space import PIXELS
from blrobust.perturbations.seeding import seeded

IMAGES = 64  # to check, at most
SYMPTOM_SHARE = 0.25  # of the images that must show a symptom
TINY = 1e-12  # a gradient all of whose entries are smaller moves no pixel

ZERO = "zero gradient"
NOT_FINITE = "gradient not finite"
VANISHING = "vanishing gradient"
SOFTMAX = "outputs are probabilities"
OPTIMISES = "optimises inside the model"


def check_model(model: nn.Module, pixels: Tensor, labels: Tensor) -> list[str]:
    """Return the flags of `model` on pixels (m, C, H, W) in [0, 1] with labels int64 (m,).

    - "no gradients": the logits do not depend on the input in a way that torch can differentiate.
    - "zero gradient": the loss has no gradient on a quarter of the images or more.
    - "vanishing gradient": it has one, but no entry is above 1e-12 in float32, on as many images: the
      logits are so far apart that the cross-entropy is saturated.
    - "outputs are probabilities": all rows lie in [0, 1] and sum to 1, where logits are expected.
    - "optimises inside the model": the forward pass takes derivatives itself.

    A model that classifies no image correctly can only have the first flag. A model that draws random numbers
    gets the same ones in every check. The flags for random logits and for logits that depend on the batch
    apply to all measurements (`blrobust.evaluation.probe`).
    """
    with seeded("model checks", device=pixels.device):
        return _flags(model, pixels, labels)


def _flags(model: nn.Module, pixels: Tensor, labels: Tensor) -> list[str]:
    found = [] if gives_gradients(model, pixels) else [NO_GRADIENTS]
    with torch.no_grad():
        right = predict(model, pixels[:IMAGES]) == labels[:IMAGES]
    images, truth = pixels[:IMAGES][right], labels[:IMAGES][right]
    if len(images) == 0:
        return found
    with derivatives_taken() as calls, torch.no_grad():
        first = model(images).float()
    if calls:
        found.append(OPTIMISES)
    if ((first >= 0) & (first <= 1)).all() and torch.allclose(first.sum(1), torch.ones_like(first[:, 0])):
        found.append(SOFTMAX)
    if NO_GRADIENTS in found:
        return found
    try:
        size = _gradient_size(model, images, truth)
    except (UserError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:  # of a backward pass through the user's code
        raise UserError(f"the backward pass failed: {describe(error)}") from error
    if (~size.isfinite()).float().mean() >= SYMPTOM_SHARE:
        found.append(NOT_FINITE)
    elif (size == 0).float().mean() >= SYMPTOM_SHARE and not _is_saturated(first, truth):
        found.append(ZERO)
    elif (size <= TINY).float().mean() >= SYMPTOM_SHARE:
        found.append(VANISHING)
    return found


def _gradient_size(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the largest entry of each image's loss gradient, as attacks get it, float32 (m,); 0 for none."""
    with torch.enable_grad():
        inputs = images.clone().requires_grad_()
        logits = CountingModel(model, PIXELS)(inputs)
        if not logits.requires_grad:
            return torch.zeros_like(images[:, 0, 0, 0])
        (gradient,) = torch.autograd.grad(
            F.cross_entropy(logits, labels, reduction="sum"), inputs, allow_unused=True
        )
    return torch.zeros_like(images[:, 0, 0, 0]) if gradient is None else gradient.abs().flatten(1).amax(1)


def _is_saturated(logits: Tensor, labels: Tensor) -> bool:
    """Return whether the probability of a quarter of the images rounds to 1, which leaves no gradient."""
    return bool((F.cross_entropy(logits, labels, reduction="none") == 0).float().mean() >= SYMPTOM_SHARE)


@contextmanager
def derivatives_taken() -> Iterator[list[str]]:
    """Record the names of torch's functions that take derivatives, called in the context."""
    calls: list[str] = []

    def watch(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        return call

    with (
        patch("torch.autograd.grad", watch("grad", torch.autograd.grad)),
        patch("torch.autograd.backward", watch("backward", torch.autograd.backward)),
        patch("torch.Tensor.backward", watch("backward", torch.Tensor.backward)),
    ):
        yield calls
