"""The memory layout of a tensor's channels."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Return whether x (batch, C, H, W) is channels last in memory and not also contiguous."""
    strided = x.dim() == 4 and not x.is_contiguous()
    return strided and x.is_contiguous(memory_format=torch.channels_last)
