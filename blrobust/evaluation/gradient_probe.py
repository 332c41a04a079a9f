"""The probe of a model's gradients: sketches (short random sums) of its gradients on a few fixed images."""

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

IMAGES = 4  # the most clean images, to which as many images with noise are added
VALUES = 2**17  # the most colour values in the clean images, so that large images take less than a second
AT_ONCE = 2  # images in a backward pass, as in `gives_gradients`; a pass of more images can fail
NUMBERS = 256  # length of a sketch


def gradient_answers(model: nn.Module, pixels: Tensor, rounded: Tensor, part: int) -> dict[str, Any]:
    """Return sketches of a model's gradients as a JSON dict with the entry "gradients" (`runs.gradients`).

    `pixels` (m, C, H, W) are inputs on which the model does not fail: `part` clean images, followed by the
    same images with noise. `rounded` are `pixels` with additional noise of the size of rounding errors. The
    dict is empty if a forward or backward pass of the model fails.
    """
    count = min(part, IMAGES, max(1, VALUES // pixels[0].numel()))
    rows = [row for row in (*range(count), *range(part, part + count)) if row < len(pixels)]
    try:
        with seeded("gradient probe", device=pixels.device):
            if not gives_gradients(model, pixels):
                return {KEY: Gradients(None).encode()}
        first, second = (_sketches(model, images[rows]) for images in (pixels, rounded))
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the user's code raises; the attack reports it
        return {}
    return {KEY: Gradients.of(first, second).encode()}


def _sketches(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Return sketches float32 (m, NUMBERS) of the gradients of a fixed weighted sum of the logits.

    The sum of the logits replaces a loss, whose gradient would be zero on images that the model classifies
    with certainty. A sketch of a gradient is a short vector: the signs of the gradient's values are changed
    at random, the values are cut into pieces of `NUMBERS` values, and the pieces are added up. The distance
    between two sketches is within 10 % of the distance between the gradients.
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
