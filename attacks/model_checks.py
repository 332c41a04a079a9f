"""Checks for properties of a model that cast doubt on its accuracy under attack, similar to AutoAttack's.

The checks run before the attacks, on a few images that the model classifies correctly (Croce & Hein 2020;
Tramer et al. 2020). Attacks with and without gradients are compared elsewhere, from the results of a run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward

from blrobust.attacks.counting_model import CountingModel, gives_gradients
from blrobust.attacks.status import NO_GRADIENTS as NO_GRADIENTS
from blrobust.errors import UserError, describe
from blrobust.models.own_model import OwnModel
from blrobust.perturbations.base import predict
from blrobust.perturbations.input_space import PIXELS
from blrobust.perturbations.seeding import seeded

IMAGES = 64  # the most that are checked
SYMPTOM_SHARE = 0.25  # of the images that must show a symptom
TINY = 1e-12  # a gradient all of whose entries are smaller moves no pixel

ZERO = "zero gradient"
NOT_FINITE = "gradient not finite"
VANISHING = "vanishing gradient"
SOFTMAX = "outputs are probabilities"
OPTIMISES = "optimises inside the model"


def check_model(model: nn.Module, pixels: Tensor, labels: Tensor) -> list[str]:
    """Return the names of the problems of `model` on pixels (m, C, H, W) in [0, 1], labels int64 (m,).

    - "no gradients": torch cannot differentiate the logits with respect to the input.
    - "gradient not finite": on at least a quarter of the images, the gradient has a NaN or an infinity.
    - "zero gradient": on at least a quarter of the images, the gradient of the loss is 0, although the
      cross-entropy is not saturated.
    - "vanishing gradient": on at least a quarter of the images, no entry of the gradient is above 1e-12 in
      float32, because the logits are so far apart that the cross-entropy is saturated.
    - "outputs are probabilities": all rows of the logits lie in [0, 1] and sum to 1.
    - "optimises inside the model": the forward pass itself takes derivatives.

    A model that classifies no image correctly can only have the problem "no gradients". A model that draws
    random numbers gets the same ones in every check. Random logits, and logits that depend on the batch,
    affect all measurements and are therefore checked in `blrobust.evaluation.probe`.
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
    if ((first >= 0) & (first <= 1)).all() and ((first.sum(1) - 1).abs() <= _rounding(model)).all():
        found.append(SOFTMAX)
    if NO_GRADIENTS in found:
        return found
    try:
        size = _gradient_size(model, images, truth)
    except (KeyboardInterrupt, UserError, torch.OutOfMemoryError):
        raise
    except BaseException as error:  # of a backward pass through the user's code
        raise UserError(f"the backward pass failed: {describe(error)}") from error
    if (~size.isfinite()).float().mean() >= SYMPTOM_SHARE:
        found.append(NOT_FINITE)
    elif (size == 0).float().mean() >= SYMPTOM_SHARE and not _is_saturated(first, truth):
        found.append(ZERO)
    elif (size <= TINY).float().mean() >= SYMPTOM_SHARE:
        found.append(VANISHING)
    return found


def _rounding(model: nn.Module) -> float:
    """Return the tolerance for the sum of a row of probabilities.

    It is the rounding error of the dtype of the model's own logits, and at least 1e-5.
    """
    dtypes = [part.output_dtype for part in model.modules() if isinstance(part, OwnModel)]
    return max([1e-5, *(torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point)])


def _gradient_size(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return for each image the largest magnitude in the gradient of the loss, float32 (m,).

    The gradient is the one that attacks get, through `CountingModel`. If torch finds no gradient, the
    magnitude is 0.
    """
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
    """Return whether the probability of the label rounds to 1 on at least a quarter of the images.

    The cross-entropy is then 0 and has no gradient.
    """
    return bool((F.cross_entropy(logits, labels, reduction="none") == 0).float().mean() >= SYMPTOM_SHARE)


@contextmanager
def derivatives_taken() -> Iterator[list[str]]:
    """Context manager: yield a list of the derivatives that torch takes inside the context.

    The list gets "backward" for each reverse-mode derivative and "dual" for each forward-mode one.
    """
    calls: list[str] = []

    def watch(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        return call

    with (
        # Every derivative calls one of these two, also if the user's file imported `grad` by name.
        patch("torch.autograd._engine_run_backward", watch("backward", _engine_run_backward)),
        patch("torch.autograd.forward_ad.make_dual", watch("dual", torch.autograd.forward_ad.make_dual)),
    ):
        yield calls
