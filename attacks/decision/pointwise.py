"""The pointwise attack: it adds salt-and-pepper noise, then restores the original pixels one by one."""

import torch
from torch import Tensor

from blrobust.attacks.building_blocks.attack import MinimalAttack
from blrobust.attacks.building_blocks.distances import PixelDistance
from blrobust.attacks.building_blocks.first_success import candidates_fool, first_fooling
from blrobust.attacks.building_blocks.parameters import check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.perturbations import random_numbers

WINDOW = 8  # the most pixels of a sample that one forward pass decides about


class PointwiseAttack(PerSampleSeed, MinimalAttack):
    """Sets more and more pixels to a bound until the model is fooled, then restores as many as possible.

    In a random order, each changed pixel is set back to its original value if the model stays fooled. This is
    repeated until no pixel can be restored. So the model would not be fooled if any single pixel of the
    result were restored (Schott et al. 2019, section 5.1, "Pointwise Attack").

    To find a starting image, the first k pixels of a random order are set to a bound, for `steps` evenly
    spaced values of k and in `starts` random orders. The first of these images that fools the model is the
    starting image. If none does, the original image is returned.

    Foolbox's class restores one channel at a time instead of one pixel, queries one candidate per forward
    pass, and fails for a whole batch if one sample has no starting image. Raises `ValueError` for a parameter
    that is not legal.
    """

    distance = PixelDistance()
    stream = random_numbers.POINTWISE

    def __init__(self, *, starts: int = 4, steps: int = 64, seed: int = 0) -> None:
        check_counts(starts=starts, steps=steps)
        self.starts = starts
        self.steps = steps
        self.seed = seed

    def _search(self, problem: Problem) -> Tensor:
        size = problem.images[0, 0].numel()
        numbers = self._own_numbers(problem, (2 * self.starts + 1) * size)
        numbers = numbers.view(len(problem.images), -1, size)
        noise, coins = numbers[:, : self.starts], numbers[:, self.starts : -1]
        points, found = self._salt_and_pepper(problem, noise, coins)
        return restored(problem, points, numbers[:, -1], among=found)

    def _salt_and_pepper(self, problem: Problem, noise: Tensor, coins: Tensor) -> tuple[Tensor, Tensor]:
        """Return images with some pixels set to a bound, and whether they fool the model, bool (m,).

        The random numbers `noise` (m, starts, H * W) determine the orders of the pixels. The random numbers
        `coins`, of the same shape, choose the lower or the upper bound for each pixel.
        """
        images = problem.images
        size = noise.shape[2]
        ranks = noise.argsort(dim=2, stable=True).argsort(dim=2)  # the rank of each pixel in its order
        lower, upper = (images.new_tensor(bound) for bound in problem.bounds)
        values = torch.where(coins < 0.5, lower, upper)

        def make(rows: Tensor, candidate_ids: Tensor) -> Tensor:
            start, step = candidate_ids // self.steps, candidate_ids % self.steps + 1
            count = (step * size + self.steps - 1) // self.steps  # evenly spaced, rounded up: at least 1
            chosen = ranks[rows[:, None], start] < count.view(1, -1, 1)  # (n, k, H * W)
            flat = images[rows].flatten(2).unsqueeze(1)
            changed = torch.where(chosen.unsqueeze(2), values[rows[:, None], start].unsqueeze(2), flat)
            return changed.view(len(rows), -1, *images.shape[1:])

        return first_fooling(problem, make, self.starts * self.steps)


def restored(problem: Problem, points: Tensor, keys: Tensor, *, among: Tensor) -> Tensor:
    """Return `points` after restoring original pixels one by one, as long as the model stays fooled.

    `points` (m, C, H, W) are images that fool the model. To restore a pixel means to set it to its value in
    the original image. The pixels of a sample are restored in ascending order of its `keys` (m, H * W), and
    `among`, bool (m,), marks the samples to change. In each round, one changed pixel after another is
    restored if the model stays fooled. The rounds end when no pixel can be restored.

    The result is that of one query after another, with fewer forward passes. For the next `WINDOW` pixels of
    a sample, one pass queries two kinds of images: with the first 1, 2, ..., `WINDOW` of these pixels
    restored together, and with a single one of these pixels restored. The first kind gives the predictions
    for the case that all of the pixels before could be restored, the second kind for the case that none
    could.
    """
    images = problem.images
    clean, flat = images.flatten(2), points.flatten(2).clone()  # (m, C, H * W)
    size = clean.shape[2]
    window = torch.arange(WINDOW, device=images.device)
    # (2 * WINDOW, WINDOW): the pixels of the window that each candidate restores.
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
            fooled = candidates_fool(problem, candidates.view(len(rows), -1, *images.shape[1:]), rows)
            together, alone = fooled[:, :WINDOW], fooled[:, WINDOW:]
            back = (together & legal).int().cumprod(dim=1).sum(dim=1)  # number of pixels to restore
            stay = (~alone & legal).int().cumprod(dim=1).sum(dim=1)  # number of pixels that stay
            count = legal.sum(dim=1)
            # The pixel that ends the run of restored pixels (or of those that stay) is decided too, if there
            # is one.
            chosen = torch.where(back > 0, back - 1, WINDOW + stay.clamp(max=WINDOW - 1))
            accepted = (back > 0) | (stay < count)
            kept = candidates[torch.arange(len(rows), device=rows.device), chosen]
            flat[rows] = torch.where(accepted.view(-1, 1, 1), kept, flat[rows])
            again[rows] |= accepted
            position[rows] += (torch.where(back > 0, back, stay) + 1).minimum(count)
    return flat.view_as(images)


def _masks(pixels: Tensor, legal: Tensor, plans: Tensor, size: int) -> Tensor:
    """Return the pixels that each plan restores, as masks bool (n, plans, H * W).

    A plan is a choice of some of the next `WINDOW` pixels: `plans`, bool (plans, WINDOW), has a row for each.
    `pixels` (n, WINDOW) are the indices of the next pixels of each sample. `legal`, bool of the same shape,
    is false at the end of a row if the sample has fewer changed pixels left.
    """
    chosen = plans & legal.unsqueeze(1)  # (n, plans, WINDOW)
    index = pixels.unsqueeze(1).expand(chosen.shape)
    masks = torch.zeros(*chosen.shape[:2], size, dtype=torch.int32, device=pixels.device)
    return masks.scatter_add_(2, index, chosen.int()) > 0
