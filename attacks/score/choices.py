"""Conversion of uniform random numbers to integers and to signs."""

import torch
from torch import Tensor


def integers(numbers: Tensor, count: int) -> Tensor:
    """Return random integers from 0 to `count` - 1, computed from uniform random `numbers` in [0, 1)."""
    # float32 can round the product up to count itself.
    return (numbers * count).long().clamp_(max=count - 1)


def signs(numbers: Tensor) -> Tensor:
    """Return random signs, -1 or 1, computed from uniform random `numbers` in [0, 1)."""
    return torch.where(numbers < 0.5, -1.0, 1.0)
