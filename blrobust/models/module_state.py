"""The state of a user's module that a measurement changes: mode, device, dtypes, gradient flags."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import nn

from blrobust.errors import UserError, describe


@contextmanager
def unchanged_module(module: nn.Module, label: str = "model") -> Iterator[None]:
    """Restore the modes, the tensors and the gradient flags of `module` at the end of the context.

    Tensors that were moved or converted in the context get their former data back. Parameters without data
    before the context, those of lazy modules, keep what they have. Raises `UserError` with the
    label of the model if the parts or tensors of the module cannot be listed.
    """
    try:
        restore = _restorer(module)
    except Exception as error:  # whatever the user's class raises
        raise UserError(f"model {label!r}: its parts cannot be listed: {describe(error)}") from error
    try:
        yield
    finally:
        restore()


def _restorer(module: nn.Module) -> Callable[[], None]:
    """Return a function that restores the modes, the tensors and the gradient flags of a module."""
    parts = list(module.modules())
    modes = [(part, part.training) for part in parts if hasattr(part, "training")]  # not some of TorchScript
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

    def restore() -> None:
        for parameter, data, requires_grad in parameters:
            if _differ(parameter.data, data):
                parameter.data = data
            parameter.requires_grad_(requires_grad)
        for part, name, tensor in buffers:
            if _differ(getattr(part, name, None), tensor):  # TorchScript has no dict of buffers
                setattr(part, name, tensor)
        for part, training in modes:
            with suppress(Exception):  # modules of torch.export accept no mode
                part.training = training

    return restore


def _differ(tensor: torch.Tensor | None, before: torch.Tensor) -> bool:
    return tensor is not None and (tensor.device, tensor.dtype) != (before.device, before.dtype)
