"""The batches of an epoch: order, crops and flips of the training images, drawn for one seed."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blrobust.training.recipes import Recipe


def epoch_batches(
    images: Tensor, recipe: Recipe, epoch: int, share: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the order of the images in an epoch, int64 (n,), and the images in this order, (n, C, H, W).

    Each image is randomly cropped and flipped; with `recipe.cutout`, a square is black. `share` are positions
    in the epoch, int64 (m,): then only these images are returned, (m,) and (m, C, H, W), each as in the whole
    epoch. The numbers are drawn on the CPU and depend only on the seed and the epoch.
    """
    n, channels, height, width = images.shape
    generator = torch.Generator().manual_seed(epoch_seed(recipe, epoch))
    order = torch.randperm(n, generator=generator)
    top, left = torch.randint(0, 2 * recipe.crop + 1, (2, n, 1), generator=generator)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    drawn = [order, top, left, flip]
    if recipe.cutout:
        drawn += [torch.randint(0, side, (n, 1), generator=generator) for side in (height, width)]
    if share is not None:
        drawn = [numbers[share] for numbers in drawn]
    order, top, left, flip, *centre = (numbers.to(images.device) for numbers in drawn)
    down, across, depth = (torch.arange(size, device=images.device) for size in (height, width, channels))
    rows = top + down
    columns = left + torch.where(flip, across.flip(0), across)
    padded = F.pad(images, [recipe.crop] * 4)
    cut = padded[
        order[:, None, None, None], depth[:, None, None], rows[:, None, :, None], columns[:, None, None]
    ]
    if centre:
        inside_rows, inside_columns = (
            (line - middle + recipe.cutout // 2) // recipe.cutout == 0
            for line, middle in zip((down, across), centre, strict=True)
        )
        cut.masked_fill_((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0)
    return order, cut


def epoch_seed(recipe: Recipe, epoch: int) -> int:
    """Return the seed of the random numbers of an epoch."""
    return recipe.seed * 100_003 + epoch
