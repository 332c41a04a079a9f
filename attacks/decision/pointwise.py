"""The pointwise attack: salt and pepper, then pixel by pixel back to what the image was."""

from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.base import MinimizationAttack, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.first_success import Oracle, checked_images, first_fooling
from blrobust.attacks.building_blocks.problem import call
from blrobust.attacks.decision.pixel import PixelDistance
from blrobust.perturbations import random_numbers

T = TypeVar("T")

WINDOW = 8  # pixels of a sample that a pass decides about, at most


class PointwiseAttack(MinimizationAttack):
    """Set more and more pixels to the minimum or maximum until the model is fooled, then undo what one can.

    Pixels are undone one by one in a random order wherever the model stays fooled, again and again
    until none can be undone: the result is minimal in that sense (Schott et al. 2019, section 5.1,
    "Pointwise Attack"). Of ``starts`` random orders of pixels, tried at ``steps`` even numbers of
    pixels, the first that fools the model is the start.

    Foolbox's undoes a channel at a time, not a pixel, asks about one number per pass, and fails
    a batch for one sample without a start.
    """

    distance = PixelDistance()

    def __init__(self, *, starts: int = 4, steps: int = 64, seed: int = 0) -> None:
        for name, value in (("starts", starts), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name} = {value}; legal: at least 1")
        self.starts = starts
        self.steps = steps
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.POINTWISE)

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
        """Images (batch, C, H, W) with few pixels set; as they were where no start fools the model.

        `samples` are the ids of the images in the data set (default 0..batch - 1); they and `draw`
        choose pixels and orders. Raises ``ValueError`` for inputs beyond the bounds and other criteria.
        """
        raise_if_kwargs(kwargs)
        images, restore = checked_images(inputs, model)
        size = images[0, 0].numel()
        numbers = self._numbers(
            (2 * self.starts + 1) * size,
            seed=self.seed,
            draw=draw,
            samples=range(len(images)) if samples is None else samples,
            device=images.device,
        ).view(len(images), -1, size)
        oracle = Oracle(model, criterion)
        noise, coins = numbers[:, : self.starts], numbers[:, self.starts : -1]
        points, found = self._salt_and_pepper(oracle, images, noise, coins, model.bounds)
        return restore(astensor(undone(oracle, images, points, numbers[:, -1], among=found)))

    def _salt_and_pepper(
        self, oracle: Oracle, images: Tensor, noise: Tensor, coins: Tensor, bounds: Any
    ) -> tuple[Tensor, Tensor]:
        """Images with some pixels at the minimum or maximum that fool the model, and bool (m,).

        ``noise`` (m, starts, H * W) orders the pixels, ``coins`` of the same shape chooses their values.
        """
        size = noise.shape[2]
        ranks = noise.argsort(dim=2, stable=True).argsort(dim=2)  # of each pixel in the order
        lower, upper = (images.new_tensor(bound) for bound in bounds)
        values = torch.where(coins < 0.5, lower, upper)

        def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
            start, step = candidate_ids // self.steps, candidate_ids % self.steps + 1
            count = (step * size + self.steps - 1) // self.steps  # even numbers, rounded up: at least 1
            chosen = ranks[rows[:, None], start] < count.view(1, -1, 1)  # (n, k, H * W)
            flat = images[rows].flatten(2).unsqueeze(1)
            set_ = torch.where(chosen.unsqueeze(2), values[rows[:, None], start].unsqueeze(2), flat)
            return set_.view(len(rows), -1, *images.shape[1:])

        return first_fooling(oracle, images, make, self.starts * self.steps)


def undone(oracle: Oracle, images: Tensor, points: Tensor, keys: Tensor, *, among: Tensor) -> Tensor:
    """Return points (m, C, H, W) with pixels put back to those of ``images`` while they fool the model.

    ``keys`` (m, H * W) order the pixels, ``among`` (m,) says which samples to work on. Each pixel is
    put back if the model stays fooled, in turn; then again from the first, until none can be.

    Equal to asking pixel by pixel, in fewer passes: a pass asks about putting back the next 1, 2, ...,
    ``WINDOW`` pixels together, and each of them alone. The first answers hold as long as pixels can
    be put back, the others as long as none can.
    """
    clean, flat = images.flatten(2), points.flatten(2).clone()  # (m, C, H * W)
    size = clean.shape[2]
    window = torch.arange(WINDOW, device=images.device)
    # (2 * WINDOW, WINDOW): which of the window's pixels a candidate puts back.
    plans = torch.cat([window <= window.unsqueeze(1), window == window.unsqueeze(1)])
    again = among.clone()
    while again.any():
        changed = (clean != flat).any(dim=1)
        order = (keys + 1 - changed.to(keys.dtype)).argsort(dim=1, stable=True)  # changed pixels first
        lengths = changed.sum(dim=1) * again
        again = torch.zeros_like(again)
        position = torch.zeros_like(lengths)
        while len(rows := (position < lengths).nonzero()[:, 0]) > 0:
            positions = position[rows].unsqueeze(1) + window  # (n, WINDOW)
            legal = positions < lengths[rows].unsqueeze(1)
            pixels = order[rows].gather(1, positions.clamp(max=size - 1))
            masks = _masks(pixels, legal, plans, size)
            candidates = torch.where(masks.unsqueeze(2), clean[rows].unsqueeze(1), flat[rows].unsqueeze(1))
            fooled = oracle(candidates.view(len(rows), -1, *images.shape[1:]), rows)
            together, alone = fooled[:, :WINDOW], fooled[:, WINDOW:]
            back = (together & legal).int().cumprod(dim=1).sum(dim=1)  # pixels to put back at once
            stay = (~alone & legal).int().cumprod(dim=1).sum(dim=1)  # pixels that must stay
            count = legal.sum(dim=1)
            # After those that go back, or must stay, the next answer is known too, if there is one.
            chosen = torch.where(back > 0, back - 1, WINDOW + stay.clamp(max=WINDOW - 1))
            accepted = (back > 0) | (stay < count)
            kept = candidates[torch.arange(len(rows), device=rows.device), chosen]
            flat[rows] = torch.where(accepted.view(-1, 1, 1), kept, flat[rows])
            again[rows] |= accepted
            position[rows] += (torch.where(back > 0, back, stay) + 1).minimum(count)
    return flat.view_as(images)


def _masks(pixels: Tensor, legal: Tensor, plans: Tensor, size: int) -> Tensor:
    """Bool (n, plans, H * W): the pixels (n, WINDOW) that each plan puts back, where ``legal``."""
    chosen = plans & legal.unsqueeze(1)  # (n, plans, WINDOW)
    index = pixels.unsqueeze(1).expand(chosen.shape)
    masks = torch.zeros(*chosen.shape[:2], size, dtype=torch.int32, device=pixels.device)
    return masks.scatter_add_(2, index, chosen.int()) > 0
