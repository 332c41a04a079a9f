"""Where a tensor's channels lie in memory."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether x (batch, C, H, W) lies in memory with its channels last, and only so."""
    strided = x.dim() == 4 and not x.is_contiguous()
    return strided and x.is_contiguous(memory_format=torch.channels_last)
