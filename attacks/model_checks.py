"""What casts doubt on a model's accuracy under attack, in the manner of AutoAttack's warnings.

Asked of a model before it is attacked, on a few images that it gets right (Croce & Hein 2020; Tramer
et al. 2020). Whether an attack without gradients beats one with them shows in the results instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blrobust.attacks.counting_model import CountingModel
from blrobust.perturbations.base import predict
from blrobust.perturbations.input_space import PIXELS

IMAGES = 64  # asked about, at most
SYMPTOM_SHARE = 0.25  # of them that must show a symptom
TINY = 1e-12  # a gradient all of whose entries are smaller moves no pixel

ZERO = "zero gradient"
VANISHING = "vanishing gradient"
SOFTMAX = "outputs are probabilities"
RANDOM = "answers are random"
OPTIMISES = "optimises inside the model"


def check_model(model: nn.Module, pixels: Tensor, labels: Tensor) -> list[str]:
    """Return what is doubtful about ``model`` on pixels (m, C, H, W) in [0, 1] with labels int64 (m,).

    - "zero gradient": the loss has none on the input, on a quarter of the images or more.
    - "vanishing gradient": it has one, but float32 holds none of its entries beyond 1e-12: the
      logits are so far apart that the cross-entropy is saturated.
    - "outputs are probabilities": rows that sum to 1 within [0, 1], where logits are expected.
    - "answers are random": the same images, other logits.
    - "optimises inside the model": the forward pass takes derivatives itself.
    """
    with torch.no_grad():
        right = predict(model, pixels[:IMAGES]) == labels[:IMAGES]
    images, truth = pixels[:IMAGES][right], labels[:IMAGES][right]
    if len(images) == 0:
        return []
    found = []
    with watched() as calls, torch.no_grad():
        first, again = model(images).float(), model(images).float()
    if calls:
        found.append(OPTIMISES)
    if not torch.equal(first, again):
        found.append(RANDOM)
    if ((first >= 0) & (first <= 1)).all() and torch.allclose(first.sum(1), torch.ones_like(first[:, 0])):
        found.append(SOFTMAX)
    size = _gradient_size(model, images, truth)
    if (size == 0).float().mean() >= SYMPTOM_SHARE and not _is_saturated(first, truth):
        found.append(ZERO)
    elif (size <= TINY).float().mean() >= SYMPTOM_SHARE:
        found.append(VANISHING)
    return found


def _gradient_size(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The largest entry of the loss's gradient on each image, float32 (m,), as attacks see it; 0 for none."""
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
    """Whether most images are classified with probability 1 to the last bit: no gradient is left of that."""
    return bool((F.cross_entropy(logits, labels, reduction="none") == 0).float().mean() >= SYMPTOM_SHARE)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collect the derivatives that are taken inside, by name."""
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
