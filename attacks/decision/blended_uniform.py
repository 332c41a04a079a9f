"""Attack that blends each image with uniform noise until the result fools the model."""

from foolbox.distances import l2
from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.parameters import check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.decision.starts import DIRECTIONS, blended, noise_images
from blrobust.perturbations import random_numbers


class BlendedUniformAttack(PerSampleSeed, MinimalAttack):
    """Blends each image with uniform noise until the result fools the model.

    Up to `directions` noise images are tried; the first one that fools the model by itself is used. The
    result is the first of `steps` evenly spaced blends from the image to this noise that fools the model. If
    no noise image fools the model, the image is returned unchanged. (Foolbox's class returns noise then.)
    Raises `ValueError` for a parameter that is not legal.
    """

    distance = l2
    stream = random_numbers.BLENDED_UNIFORM

    def __init__(self, *, directions: int = DIRECTIONS, steps: int = 1000, seed: int = 0) -> None:
        check_counts(directions=directions, steps=steps)
        self.directions = directions
        self.steps = steps
        self.seed = seed

    def _search(self, problem: Problem) -> Tensor:
        images = problem.images
        size = images[0].numel()
        own = self._own_numbers(problem, size).view_as(images)
        shared = self._shared_numbers(problem, self.directions * size, step=0)
        shared = shared.view(self.directions, *images.shape[1:])

        def uniform(rows: Tensor, candidate_ids: Tensor) -> Tensor:
            return random_numbers.mixed(own[rows].unsqueeze(1), shared[candidate_ids])

        points, fooling = noise_images(problem, uniform, self.directions)
        found, _ = blended(problem, points, steps=self.steps, among=fooling)
        return found
