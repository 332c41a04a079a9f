"""Gaussian and uniform noise, in three input spaces."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.perturbations import paper_bounds, paper_space, random_numbers
from blrobust.perturbations.classification import classify
from blrobust.perturbations.noise_kinds import SPACES

KINDS = {"gaussian": random_numbers.standard_normal, "uniform": random_numbers.uniform}
# Versions of the kinds. A code change that makes other noise, or noise of another scale, for the same options
# must raise the number of that kind by 1, so that a run of the version before is neither resumed nor shown as
# the result. 1 is not stored.
REVISIONS = {"gaussian": 1, "uniform": 1}


class Noise:
    """Noise on pixels `x`: random numbers `z` ~ N(0, 1) ("gaussian") or U[-1, 1) ("uniform"), times a level.

    The input space `space` is one of

    - "normalized": `x + level * std * z`, not clipped. `std` is the standard deviation of the data set, so
      the level is the paper's sigma: the noise in normalised images. Every model gets the same input.
    - "pixel": `clip(x + level * z, 0, 1)`.
    - "legacy": `clip(n + w * z, bounds)` with normalised images `n`. `w` is the level for Gaussian noise, and
      `level^2 * 5.183` for uniform noise, because Foolbox 1, which the paper used, scaled by epsilon twice.

    The class implements `blrobust.perturbations.base.Perturbation`. Raises `UserError` for an unknown kind or
    space, and for "legacy" on other data than CIFAR-10.
    """

    one_search_for_all_levels = False
    passes = 0  # not counted, because noise needs only one pass of each block

    def __init__(self, kind: str, *, space: str, dataset: Dataset, seed: int, device: torch.device) -> None:
        if kind not in KINDS:
            raise UserError(f"kind: got {kind!r}; legal: {', '.join(KINDS)}")
        if space not in SPACES:
            raise UserError(f"space: got {space!r}; legal: {', '.join(SPACES)}")
        self.kind = kind
        self.space = space
        self._legacy = paper_space.space(dataset) if space == paper_bounds.SPACE else None
        shape = tuple(dataset.images.shape[1:])
        std = dataset.std if space == "normalized" else [1.0] * shape[0]
        unit = torch.tensor(std, dtype=torch.float32)

        def unit_noise(draw: int, samples: range) -> Tensor:
            noise = KINDS[kind](shape, seed=seed, draw=draw, samples=samples)
            return noise.mul_(unit.view(-1, 1, 1)).to(device)

        # Noise at level 1 is kept, so that another level costs one multiply-add per colour value.
        self._noise = random_numbers.Cache(unit_noise)

    @torch.no_grad()
    def measure(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        levels: Sequence[float],
        draw: int,
        samples: range,
        keep: bool = False,
    ) -> list[dict[str, Tensor]]:
        """Return for each level the result of the function `classify` for the block of images with noise."""
        noisy = (self.perturb(pixels, level, draw, samples) for level in levels)
        return [classify(model, block, labels) for block in noisy]

    @torch.no_grad()
    def picture(self, pixels: Tensor, labels: Tensor, *, level: float, draw: int, samples: range) -> Tensor:
        """Return the block of images with noise, clipped to [0, 1]."""
        return self.perturb(pixels, level, draw, samples).clamp(0, 1)

    def perturb(self, pixels: Tensor, level: float, draw: int, samples: range) -> Tensor:
        """Return the block of images with noise, `(b, C, H, W)`, as a new tensor."""
        noise = self._noise.block(draw, samples)
        if self._legacy is not None:
            width = level if self.kind == "gaussian" else level**2 * paper_bounds.WIDTH
            inputs = self._legacy.enter(pixels).add_(noise, alpha=width)
            return self._legacy.leave(inputs.clamp_(*self._legacy.bounds))
        noisy = torch.add(pixels, noise, alpha=level)
        return noisy.clamp_(0, 1) if self.space == "pixel" else noisy
