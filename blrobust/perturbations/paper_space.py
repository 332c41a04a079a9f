"""The published attack space: CIFAR-10 normalised by the authors' constants, with one pair of bounds.

Results in this space, measured with `--legacy`, are marked "legacy". Their axes are those of the published
curves, so that results and published curves can be drawn in one figure.
"""

import torch

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.perturbations.input_space import Space
from blrobust.perturbations.paper_bounds import BOUNDS, MEAN, SPACE, STD


def space(dataset: Dataset) -> Space:
    """Return the published attack space, for noise and for attacks.

    Raises `UserError` for other data than CIFAR-10.
    """
    if (dataset.mean, dataset.std) != (MEAN, STD):
        raise UserError(f"space: got data set {dataset.name}; legal: cifar10, cifar10-sample")
    # Bounds as float32: Foolbox compares inputs with them in float64, where a rounded input may be beyond.
    lower, upper = torch.tensor(BOUNDS).tolist()
    return Space(SPACE, (lower, upper), MEAN, STD)
