"""The state of a user's module that a measurement changes: mode, device, dtypes, gradient flags."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import nn


@contextmanager
def unchanged_module(module: nn.Module) -> Iterator[None]:
    """Restore the modes, the tensors and the gradient flags of `module` at the end of the context.

    Tensors that were moved or converted in the context get their former data back. Parameters that had no
    data before the context, as in lazy modules, are left as they are.
    """
    parts = list(module.modules())
    modes = [(part, part.training) for part in parts]
    parameters = [
        (parameter, parameter.data, parameter.requires_grad)
        for parameter in module.parameters()
        if not nn.parameter.is_lazy(parameter)
    ]
    buffers = [
        (part, name, tensor)
        for part in parts
        for name, tensor in part.named_buffers(recurse=False)
        if not nn.parameter.is_lazy(tensor)
    ]
    try:
        yield
    finally:
        for parameter, data, requires_grad in parameters:
            if _differ(parameter.data, data):
                parameter.data = data
            parameter.requires_grad_(requires_grad)
        for part, name, tensor in buffers:
            if _differ(getattr(part, name, tensor), tensor):
                setattr(part, name, tensor)
        for part, training in modes:
            with suppress(Exception):  # modules of torch.export accept no mode
                part.training = training


def _differ(tensor: torch.Tensor, before: torch.Tensor) -> bool:
    return (tensor.device, tensor.dtype) != (before.device, before.dtype)
