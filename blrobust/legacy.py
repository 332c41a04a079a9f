"""The published attack space: CIFAR-10 normalised by the authors' constants, one pair of bounds.

``--legacy`` exists so that the published curves can be laid over one's own; its rows say "legacy".
"""

import torch
from torch import Tensor

from blrobust.datasets import Dataset
from blrobust.errors import UserError

SPACE = "legacy"
BOUNDS = (-2.4290657, 2.7537313)  # the extremes of normalised CIFAR-10 over all channels
WIDTH = BOUNDS[1] - BOUNDS[0]  # 5.183; Foolbox 1 multiplied the strength by it
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


class Legacy:
    """Maps pixels to the published space and back; raises ``UserError`` for other data sets."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        if (dataset.mean, dataset.std) != (MEAN, STD):
            raise UserError(
                f"--legacy is the published CIFAR-10 space, not one of {dataset.name}; "
                "legal data sets: cifar10, cifar10-sample"
            )
        self._mean = torch.tensor(MEAN, device=device).view(-1, 1, 1)
        self._std = torch.tensor(STD, device=device).view(-1, 1, 1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return ``(pixels - mean) / std``, ``(b, 3, H, W)``, in a new tensor."""
        return (pixels - self._mean).div_(self._std)

    def pixels(self, normalised: Tensor) -> Tensor:
        """Clip to the bounds, in place, and return ``normalised * std + mean``, in a new tensor."""
        return (normalised.clamp_(*BOUNDS) * self._std).add_(self._mean)
