"""Powers of two that keep small gradients within the range of their number format."""

import torch
from torch import Tensor


def power_of_two(values: Tensor) -> Tensor:
    """The factor (m, 1, ...) that brings the largest magnitude of each sample into [1/2, 1).

    Multiplying by it loses no bit. 1 where all values of a sample are 0 or one is not finite.
    """
    largest = values.detach().float().flatten(1).abs().amax(dim=1).nan_to_num(0, 0, 0)
    exponent = torch.frexp(largest).exponent.neg().clamp(-126, 126)
    factor = torch.ldexp(torch.ones_like(largest), exponent)
    return factor.view(-1, *[1] * (values.ndim - 1))
