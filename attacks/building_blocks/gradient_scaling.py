"""Powers of two by which small gradients are multiplied, so that they do not underflow."""

import torch
from torch import Tensor


def power_of_two(values: Tensor) -> Tensor:
    """Return for each sample the power of two (m, 1, ...) that brings its largest magnitude into [1/2, 1).

    Multiplication by the factor is exact. The factor is between 2^-126 and 2^126 for all values, so it is
    positive and finite. Because of these limits, largest magnitudes below 2^-127 or from 2^126 on do not
    reach [1/2, 1).
    """
    flat = values.detach().float().flatten(1)
    largest: Tensor = torch.linalg.vector_norm(flat, torch.inf, dim=1)
    # A float32 of exponent byte e lies in [2^(e - 127), 2^(e - 126)); the factor's byte is 126 - e + 127.
    exponent = largest.view(torch.int32) >> 23
    factor = ((253 - exponent).clamp_(min=1) << 23).view(torch.float32)
    return factor.view(-1, *[1] * (values.ndim - 1))
