"""The memory format of a tensor's channels."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Return whether x is 4D and has the memory format channels_last, without being contiguous as well."""
    strided = x.dim() == 4 and not x.is_contiguous()
    return strided and x.is_contiguous(memory_format=torch.channels_last)
