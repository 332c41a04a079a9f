"""The memory format of a tensor's channels."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Return whether x is 4D and channels_last in memory, but not also contiguous, as with one channel."""
    strided = x.dim() == 4 and not x.is_contiguous()
    return strided and x.is_contiguous(memory_format=torch.channels_last)
