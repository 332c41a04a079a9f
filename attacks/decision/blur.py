"""Gaussian blur of a given width."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from blrobust.attacks.building_blocks.attack import Transform
from blrobust.attacks.building_blocks.distances import Unmeasured
from blrobust.attacks.building_blocks.level_checks import check_not_negative

WIDTHS = 4  # the filter is cut off at this many standard deviations, as in scipy.ndimage


def gaussian_matrix(size: int, sigma: float) -> Tensor:
    """Return the matrix that blurs a line of `size` pixels, float64 (size, size).

    The weight of a pixel at the distance t is proportional to exp(-t^2 / (2 sigma^2)) for |t| <= 4 sigma and
    0 beyond; the weights sum to 1. At both ends the line continues as its mirror image, repeatedly if the
    filter is long: (d c b a | a b c d | d c b a). The blur is a matrix because the filter may be many times
    as long as the line.
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
    """Return `gaussian_matrix` in float32 on `device`, cached for later calls."""
    with torch.inference_mode(False):
        return gaussian_matrix(size, sigma).float().to(device)


class GaussianBlurAttack(Transform):
    """Blurs with a Gaussian filter of standard deviation `epsilon` * max(H, W) pixels, as Foolbox 1 does.

    Foolbox 3's class instead searches for the smallest width that fools the model, with a thousand blurs on
    the CPU.
    """

    distance = Unmeasured()

    def _transform(self, images: Tensor, epsilon: float, bounds: tuple[float, float]) -> Tensor:
        check_not_negative(epsilon, images.shape[1:])
        height, width = images.shape[2:]
        sigma = epsilon * max(height, width)
        if math.isclose(sigma, 0, abs_tol=1e-15):
            return images
        rows, columns = (_matrix(size, sigma, images.device) for size in (height, width))
        blurred = ((images @ columns.T).mT @ rows.T).mT
        return blurred.clamp(*bounds)
