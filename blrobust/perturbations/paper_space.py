"""The published attack space: CIFAR-10 normalised by the authors' constants, one pair of bounds.

``--legacy`` exists so that the published curves can be laid over one's own; its rows say "legacy".
"""

import torch

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.perturbations.input_space import Space
from blrobust.perturbations.paper_bounds import BOUNDS, MEAN, SPACE, STD


def space(dataset: Dataset) -> Space:
    """The space, of noise and of attacks; raises ``UserError`` for another data set than CIFAR-10."""
    if (dataset.mean, dataset.std) != (MEAN, STD):
        raise UserError(
            f"--legacy is the published CIFAR-10 space, not one of {dataset.name}; "
            "legal data sets: cifar10, cifar10-sample"
        )
    # Foolbox compares float32 inputs with the bounds in float64, where the rounded bound lies beyond it.
    lower, upper = torch.tensor(BOUNDS).tolist()
    return Space(SPACE, (lower, upper), MEAN, STD)
