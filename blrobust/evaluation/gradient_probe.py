"""Probe of the gradients of a model: sketches of them on a few fixed images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blrobust.attacks.counting_model import CountingModel, gives_gradients
from blrobust.perturbations.input_space import PIXELS
from blrobust.perturbations.random_numbers import fixed_noise
from blrobust.perturbations.seeding import seeded
from blrobust.runs.gradients import KEY, Gradients

IMAGES = 4  # of the clean ones at most, and as many with noise
VALUES = 2**17  # in these images, at most, so that a network for large images takes less than a second
AT_ONCE = 2  # images, as `gives_gradients` takes: a backward pass of more can fail
NUMBERS = 256  # in the sketch of a gradient


def gradient_answers(model: nn.Module, pixels: Tensor, rounded: Tensor, part: int) -> dict[str, Any]:
    """Return the entry of a model's answers with its gradients, as plain JSON (`runs.gradients`).

    `pixels` (m, C, H, W) are inputs that the model takes, in parts of `part` images, and `rounded` the same
    with noise of the size of rounding errors. The entry is empty where a pass fails on these images.
    """
    count = min(part, IMAGES, max(1, VALUES // pixels[0].numel()))
    rows = [row for row in (*range(count), *range(part, part + count)) if row < len(pixels)]
    try:
        with seeded("gradient probe", device=pixels.device):
            if not gives_gradients(model, pixels):
                return {KEY: Gradients(None).encode()}
        first, second = (_sketches(model, images[rows]) for images in (pixels, rounded))
    except (Exception, SystemExit):  # whatever the user's code raises; the attack reports it
        return {}
    return {KEY: Gradients.of(first, second).encode()}


def _sketches(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Return sketches float32 (m, NUMBERS) of the gradients of a fixed combination of the logits.

    Unlike the gradient of a loss, it is not zero on an image of which the model is sure. A sketch is a sum of
    parts of the gradient with random signs, whose distances are those of the gradients to within 10 %.
    """
    found = []
    with seeded("gradient probe", device=images.device), torch.enable_grad():
        for some in torch.split(images, AT_ONCE):
            inputs = some.clone().requires_grad_()
            logits = CountingModel(model, PIXELS)(inputs)
            (gradient,) = torch.autograd.grad((logits * fixed_noise(logits)).sum(), inputs)
            found.append(gradient.detach())
    gradients = (torch.cat(found) * fixed_noise(images).sign()).flatten(1).cpu().double()
    padded = nn.functional.pad(gradients, (0, -gradients.shape[1] % NUMBERS))
    sketches: NDArray[np.float32] = padded.view(len(padded), -1, NUMBERS).sum(1).float().numpy()
    return sketches
