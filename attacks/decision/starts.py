"""Adversarial starting points for attacks that walk along the decision boundary.

If random noise does not fool the model for one sample, Foolbox's attacks fail for the whole batch.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.first_success import MakeCandidates, candidates_fool, first_fooling
from blrobust.attacks.building_blocks.problem import Problem

DIRECTIONS = 50  # noise images tried; if none of them fools the model, more of them hardly would
STEPS = 50  # blends tried between the sample and a point that fools the model


def noise_images(problem: Problem, uniform: MakeCandidates, count: int) -> tuple[Tensor, Tensor]:
    """Return for each sample the first noise image that fools the model, and whether there is one.

    The results are (m, C, H, W) and bool (m,). Without such a noise image, the image is returned unchanged.
    `uniform` is a function that returns noise images with values in [0, 1), which are then scaled to the
    model's bounds; `count` of them are tried per sample.
    """
    lower, upper = problem.bounds

    def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        noise: Tensor = lower + (upper - lower) * uniform(rows, candidate_ids)
        return noise

    return first_fooling(problem, make, count)


def other_images(problem: Problem, *, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each sample the first other image that fools the model, and whether there is one.

    The results are (m, C, H, W) and bool (m,). Without such an image, the sample's own image is returned. The
    other images are tried in the order of the batch, from the next one on. `among`, bool (m,), marks the
    samples for which images are tried; every image of the batch can be tried.
    """
    images = problem.images

    def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        return images[(rows.unsqueeze(1) + 1 + candidate_ids) % len(images)]

    return first_fooling(problem, make, len(images) - 1, among=among)


def blended(problem: Problem, points: Tensor, *, steps: int, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each sample the first blend that fools the model, and whether there is one.

    The results are (m, C, H, W) and bool (m,). Without such a blend, the image is returned unchanged. The
    blends are `steps` evenly spaced images on the line from the image to its point in `points` (m, C, H, W).
    `among`, bool (m,), marks the samples for which blends are tried.
    """
    images = problem.images

    def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        share = ((candidate_ids + 1) / steps).to(images.dtype).view(1, -1, 1, 1, 1)
        blend = images[rows].unsqueeze(1).lerp(points[rows].unsqueeze(1), share)
        return problem.clip(blend)

    return first_fooling(problem, make, steps, among=among)


def starting_points(problem: Problem) -> tuple[Tensor, Tensor]:
    """Return for each sample a point that fools the model, and whether there is one.

    The results are (m, C, H, W) and bool (m,). The point is a blend of the image with uniform noise or, if no
    noise fools the model, with another image of the batch. The noise comes from torch's global generator,
    like all other random numbers of Foolbox's attacks.
    """
    images = problem.images
    numbers = torch.rand((DIRECTIONS, *images.shape[1:]), dtype=images.dtype, device=images.device)

    def uniform(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        return numbers[candidate_ids].expand(len(rows), -1, -1, -1, -1)

    points, found = noise_images(problem, uniform, DIRECTIONS)
    others, also = other_images(problem, among=~found)
    points = torch.where(also.view(-1, 1, 1, 1), others, points)
    return blended(problem, points, steps=STEPS, among=found | also)


class BoundaryWalk(MinimalAttack, ABC):
    """An attack of Foolbox that walks from an adversarial starting point towards the image.

    A sample for which no starting point is found is returned unchanged. If the walk ends at a point that does
    not fool the model, or that is not finite, the starting point is returned.
    """

    def _search(self, problem: Problem) -> Tensor:
        points, found = starting_points(problem)
        rows = found.nonzero()[:, 0]
        if len(rows) > 0:
            walked = self._walk(
                problem.model, problem.images[rows], problem.criterion(rows), starting_points=points[rows]
            )
            walked = problem.clip(walked.detach())
            good = candidates_fool(problem, walked.unsqueeze(1), rows)[:, 0]
            good &= walked.isfinite().flatten(1).all(dim=1)
            points[rows] = torch.where(good.view(-1, 1, 1, 1), walked, points[rows])
        return points

    @abstractmethod
    def _walk(self, model: Any, images: Tensor, criterion: Any, *, starting_points: Tensor) -> Any:
        """Return the end points of the walks (n, C, H, W), computed by the `run` of the Foolbox class."""
