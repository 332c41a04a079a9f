"""Attacks that walk along the decision boundary from a start that fools the model, one for every sample.

Foolbox's give up a whole batch where noise fails to fool the model for one of its samples.
"""

import copy
import warnings
from abc import ABC
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor
from eagerpy.tensor.tensor import Tensor as Wrapped
from foolbox.attacks import boundary_attack, brendel_bethge, hop_skip_jump
from foolbox.attacks.base import MinimizationAttack, raise_if_kwargs
from foolbox.distances import l2
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.first_success import Make, Oracle, checked_images, first_fooling
from blrobust.attacks.building_blocks.problem import call
from blrobust.perturbations import random_numbers

T = TypeVar("T")

DIRECTIONS = 50  # noise images tried; where they all look like the sample's own class, more would too
STEPS = 50  # blends tried between the sample and what fools the model


def noise_images(
    oracle: Oracle, images: Tensor, uniform: Make, count: int, bounds: Any
) -> tuple[Tensor, Tensor]:
    """Return uniform noise that fools the model in place of images (m, C, H, W), and bool (m,): is it?

    ``uniform`` makes the ``count`` noise images to try, in [0, 1), before they span the bounds.
    """
    lower, upper = bounds

    def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        noise: Tensor = lower + (upper - lower) * uniform(rows, candidate_ids)
        return noise

    return first_fooling(oracle, images, make, count)


def other_images(oracle: Oracle, images: Tensor, *, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return another of the images (m, C, H, W) that fools the model in place of those ``among`` (m,).

    Also bool (m,): is there one?
    """

    def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        return images[(rows.unsqueeze(1) + 1 + candidate_ids) % len(images)]

    return first_fooling(oracle, images, make, len(images) - 1, among=among)


def blended(
    oracle: Oracle, images: Tensor, points: Tensor, bounds: Any, *, steps: int, among: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the first of ``steps`` even steps from each image to its point that fools the model.

    Also bool (m,): did one? Only for those ``among`` (m,).
    """

    def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        share = ((candidate_ids + 1) / steps).to(images.dtype).view(1, -1, 1, 1, 1)
        blend = images[rows].unsqueeze(1).lerp(points[rows].unsqueeze(1), share)
        return blend.clamp(*bounds)

    return first_fooling(oracle, images, make, steps, among=among)


class BlendedUniformAttack(MinimizationAttack):
    """Blend the image with uniform noise until it fools the model.

    Of ``directions`` noise images the first that fools the model by itself, of ``steps`` even blends
    towards it the first that does. Foolbox's returns noise that fools nobody where none does.
    """

    distance = l2

    def __init__(self, *, directions: int = DIRECTIONS, steps: int = 1000, seed: int = 0) -> None:
        for name, value in (("directions", directions), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name} = {value}; legal: at least 1")
        self.directions = directions
        self.steps = steps
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.BLENDED_UNIFORM)

    def __repr__(self) -> str:
        return call(self)

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        early_stop: float | None = None,
        draw: int = 0,
        samples: range | tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> T:
        """Images (batch, C, H, W), blended, or as they were where no noise fools the model.

        `samples` are the ids of the images in the data set (default 0..batch - 1); they and `draw`
        choose the noise. Raises ``ValueError`` for inputs beyond the bounds and other criteria.
        """
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        own = self._numbers(
            images[0].numel(),
            seed=self.seed,
            draw=draw,
            samples=range(len(images)) if samples is None else samples,
            device=images.device,
        ).view_as(images)
        shared = random_numbers.common(
            self.directions * images[0].numel(),
            stream=random_numbers.BLENDED_UNIFORM,
            seed=self.seed,
            draw=draw,
            step=0,
            device=images.device,
        ).view(self.directions, *images.shape[1:])

        def uniform(rows: Tensor, candidate_ids: Tensor) -> Tensor:
            return random_numbers.mixed(own[rows].unsqueeze(1), shared[candidate_ids])

        oracle = Oracle(model, criterion)
        points, fooling = noise_images(oracle, images, uniform, self.directions, model.bounds)
        found, _ = blended(oracle, images, points, model.bounds, steps=self.steps, among=fooling)
        return restore(astensor(found))


def starting_points(oracle: Oracle, images: Tensor, bounds: Any) -> tuple[Tensor, Tensor]:
    """Return a point that fools the model for each image (m, C, H, W), and bool (m,): is there one?

    Uniform noise, or another of the images; then blended with the image. The noise comes from
    torch's global generator, as the rest of these attacks' randomness does.
    """
    numbers = torch.rand((DIRECTIONS, *images.shape[1:]), device=images.device)

    def uniform(rows: Tensor, candidate_ids: Tensor) -> Tensor:
        return numbers[candidate_ids].expand(len(rows), -1, -1, -1, -1)

    points, found = noise_images(oracle, images, uniform, DIRECTIONS, bounds)
    others, also = other_images(oracle, images, among=~found)
    points = torch.where(also.view(-1, 1, 1, 1), others, points)
    return blended(oracle, images, points, bounds, steps=STEPS, among=found | also)


def run_from_starts(run: Callable[..., Any], model: Model, inputs: T, criterion: Any) -> T:
    """``run`` for the samples that have a starting point; the others stay as they were.

    So does nothing that ``run`` returns but does not fool the model, or is not finite: the starting
    point takes its place.
    """
    images, restore = checked_images(inputs, model)
    oracle = Oracle(model, criterion)
    points, found = starting_points(oracle, images, model.bounds)
    rows = found.nonzero()[:, 0]
    if len(rows) > 0:
        walked = run(model, images[rows], oracle.criterion(rows), starting_points=points[rows])
        walked = walked.detach().clamp(*model.bounds)
        good = oracle(walked.unsqueeze(1), rows)[:, 0] & walked.isfinite().flatten(1).all(dim=1)
        points[rows] = torch.where(good.view(-1, 1, 1, 1), walked, points[rows])
    return restore(astensor(points))


class BoundaryAttack(boundary_attack.BoundaryAttack):
    """Foolbox's Boundary attack (Brendel et al. 2018) with a start for every sample."""

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (batch, C, H, W) closer and closer that fool the model; without a start as they were."""
        raise_if_kwargs(kwargs)
        return run_from_starts(super().run, model, inputs, criterion)


class HopSkipJumpAttack(hop_skip_jump.HopSkipJumpAttack):
    """Foolbox's HopSkipJump attack (Chen et al. 2020) with a start for every sample.

    Foolbox's clips to [0, 1] whatever the bounds are, so it runs in that space; and it divides the
    directions of a whole batch by one norm, where the paper's steps have length 1 for each sample.
    """

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (batch, C, H, W) closer and closer that fool the model; without a start as they were."""
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        lower, upper = model.bounds
        unit = model.transform_bounds((0, 1))
        scaled = ((images - lower) / (upper - lower)).clamp(0, 1)
        found = run_from_starts(super().run, unit, scaled, criterion)
        changed = (found != scaled).flatten(1).any(dim=1).view(-1, 1, 1, 1)
        moved = (lower + (upper - lower) * found).clamp(lower, upper)
        return restore(astensor(torch.where(changed, moved, images)))

    def approximate_gradients(self, *arguments: Any) -> Wrapped:
        """Directions (batch, C, H, W) into the adversarial side, each of length 1 (section III.B)."""
        gradients = super().approximate_gradients(*arguments)
        norms = gradients.raw.flatten(1).norm(dim=1).clamp(min=1e-12)
        directions: Wrapped = astensor(gradients.raw / norms.view(-1, 1, 1, 1))
        return directions


class _BrendelBethgeAttack(brendel_bethge.BrendelBethgeAttack, ABC):
    """What both norms share; the trust region of Foolbox's grows with the batch, and must not."""

    def instantiate_optimizer(self) -> Any:
        """The solver, without Foolbox's warning that its compilation takes a minute."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return super().instantiate_optimizer()  # type: ignore[safe-super]

    def run(
        self, model: Model, inputs: T, criterion: Any, *, early_stop: float | None = None, **kwargs: Any
    ) -> T:
        """Images (batch, C, H, W) closer and closer that fool the model; without a start as they were."""
        raise_if_kwargs(kwargs)

        def walk(model: Model, images: Tensor, criterion: Any, *, starting_points: Tensor) -> Any:
            attack: Any = copy.copy(self)
            attack.lr /= len(images)
            run = super(_BrendelBethgeAttack, attack).run
            return run(model, images, criterion, starting_points=starting_points)

        return run_from_starts(walk, model, inputs, criterion)


class L2BrendelBethgeAttack(_BrendelBethgeAttack, brendel_bethge.L2BrendelBethgeAttack):
    """Foolbox's L2 attack of Brendel et al. 2019 with a start for every sample."""


class LinfBrendelBethgeAttack(_BrendelBethgeAttack, brendel_bethge.LinfinityBrendelBethgeAttack):
    """Foolbox's Linf attack of Brendel et al. 2019 with a start for every sample."""
