"""Batched logit queries of score-based attacks."""

import torch
from torch import Tensor

from blrobust.attacks.building_blocks.problem import Problem

BATCH = 4096  # most images in one call of the model: their activations must fit into memory


def batched_logits(problem: Problem, images: Tensor) -> Tensor:
    """Return logits (n, classes) of any number of images (n, C, H, W), `BATCH` at a time."""
    return torch.cat([problem.logits(part) for part in torch.split(images, BATCH)])
