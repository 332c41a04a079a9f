"""Conversion of logits to float32 that keeps the order and the distances of the largest ones."""

import math

import torch
from torch import Tensor

LEAST = torch.finfo(torch.float32).min


def narrowed(logits: Tensor) -> Tensor:
    """Return logits (m, classes) of any real dtype as float32.

    From each row of float64 and integer logits, the largest logit of the row is subtracted, unless all values
    of the row are in [0, 1]. The subtraction changes neither a margin nor a loss, and it keeps differences
    that float32 cannot resolve beside a large common part. A logit below the largest one stays below the
    largest one, and a finite logit stays finite.
    """
    if logits.is_floating_point() and logits.dtype != torch.float64:
        return logits.to(torch.float32)
    wide = logits if logits.is_floating_point() else logits.to(torch.int64)
    if wide.shape[1] == 0:
        return wide.to(torch.float32)
    largest = wide.detach().amax(1, keepdim=True)
    is_probability = ((wide >= 0) & (wide <= 1)).all(1, keepdim=True)
    shifted = wide - torch.where(is_probability | ~largest.isfinite(), 0, largest)
    if not wide.is_floating_point():  # a difference beyond 64 bits wraps around
        shifted = torch.where(~is_probability & (shifted > 0), torch.iinfo(torch.int64).min, shifted)
    narrow = shifted.to(torch.float32)
    narrow = torch.where(narrow.isinf() & shifted.isfinite(), LEAST, narrow)
    top = narrow.detach().amax(1, keepdim=True)
    is_merged = (narrow == top) & (wide < largest)
    return torch.where(is_merged, torch.nextafter(top, torch.full_like(top, -math.inf)), narrow)
