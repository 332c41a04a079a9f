"""Queries of a model for logits, with a limited number of images at a time."""

import torch
from torch import Tensor

from blrobust.attacks.building_blocks.problem import Problem

BATCH = 4096  # the most images in one call of the model, whose activations must fit into memory


def batched_logits(problem: Problem, images: Tensor) -> Tensor:
    """Return logits (n, classes) of images (n, C, H, W), with at most `BATCH` images per model call."""
    return torch.cat([problem.logits(part) for part in torch.split(images, BATCH)])
