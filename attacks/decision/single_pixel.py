"""The single-pixel attack: it sets one pixel after another to the minimum and the maximum of the bounds."""

from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.distances import PixelDistance
from blrobust.attacks.building_blocks.first_success import first_fooling
from blrobust.attacks.building_blocks.parameters import check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.perturbations import random_numbers


class SinglePixelAttack(PerSampleSeed, MinimalAttack):
    """Sets one pixel, in all channels, to the minimum or to the maximum of the bounds.

    Up to `pixels` pixels are tried, in a random order that differs between samples, each with the minimum
    first and then the maximum. The result is the first image that fools the model, or the unchanged image if
    none does. If all H * W pixels are tried, the search is exhaustive: if it finds nothing, no single pixel
    fools the model. Narodytska & Kasiviswanathan 2017, section 3.1; the random order and the default of 1,000
    pixels are those of Foolbox 1. Raises `ValueError` for a parameter that is not legal.
    """

    distance = PixelDistance()
    stream = random_numbers.SINGLE_PIXEL

    def __init__(self, *, pixels: int = 1000, seed: int = 0) -> None:
        check_counts(pixels=pixels)
        self.pixels = pixels
        self.seed = seed

    def _search(self, problem: Problem) -> Tensor:
        images = problem.images
        size = images[0, 0].numel()
        order = self._own_numbers(problem, size).argsort(dim=1, stable=True)
        bounds = images.new_tensor(problem.bounds)

        def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
            # (n, k, C, H * W)
            flat = images[rows].flatten(2).unsqueeze(1).expand(-1, len(candidate_ids), -1, -1)
            pixels = order[rows[:, None], candidate_ids // 2]  # (n, k)
            index = pixels.view(len(rows), -1, 1, 1).expand(*flat.shape[:3], 1)
            values = bounds[candidate_ids % 2].view(1, -1, 1, 1).expand(index.shape)
            return flat.scatter(3, index, values).view(len(rows), -1, *images.shape[1:])

        found, _ = first_fooling(problem, make, 2 * min(self.pixels, size))
        return found
