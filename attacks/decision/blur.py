"""Gaussian blur of a stated width."""

import math
from functools import lru_cache
from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.first_success import Unmeasured, checked_images
from blrobust.attacks.decision.contrast import check_share

T = TypeVar("T")

WIDTHS = 4  # standard deviations at which the filter is cut off, as in scipy.ndimage


def gaussian_matrix(size: int, sigma: float) -> Tensor:
    """The blur of a line of ``size`` pixels as a float64 matrix (size, size).

    Weights exp(-t^2 / (2 sigma^2)) for |t| <= 4 sigma, summing to 1; beyond its ends the line goes
    on as its mirror image (d c b a | a b c d | d c b a), however often the filter needs it. A
    matrix, because the filter may be many times as long as the line.
    """
    radius = int(WIDTHS * sigma + 0.5)
    if radius == 0:
        return torch.eye(size, dtype=torch.float64)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-steps.square() / (2 * sigma**2))
    weights /= weights.sum()
    pixel = torch.arange(size).unsqueeze(1)
    source = (pixel + steps.long()) % (2 * size)
    source = torch.minimum(source, 2 * size - 1 - source)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(
        1, source, weights.expand(size, -1).contiguous()
    )


@lru_cache(maxsize=64)
def _matrix(size: int, sigma: float, device: torch.device) -> Tensor:
    """``gaussian_matrix`` in float32, kept for the next block."""
    with torch.inference_mode(False):
        return gaussian_matrix(size, sigma).float().to(device)


class GaussianBlurAttack(FixedEpsilonAttack):
    """Blur with a Gaussian of standard deviation ``epsilon`` * max(H, W) pixels, as Foolbox 1 does.

    Foolbox 3's looks for the smallest width instead, in a thousand blurs on the CPU.
    """

    distance = Unmeasured()

    def __repr__(self) -> str:
        return "GaussianBlurAttack()"

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Images (batch, C, H, W); the model is asked for its bounds only.

        Raises ``UserError`` where ``epsilon`` is negative, ``ValueError`` for inputs beyond the bounds.
        """
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        check_share(epsilon, images.shape[1:])
        height, width = images.shape[2:]
        sigma = epsilon * max(height, width)
        if math.isclose(sigma, 0, abs_tol=1e-15):
            return restore(astensor(images))
        rows, columns = (_matrix(size, sigma, images.device) for size in (height, width))
        blurred = ((images @ columns.T).mT @ rows.T).mT
        return restore(astensor(blurred.clamp(*model.bounds)))
