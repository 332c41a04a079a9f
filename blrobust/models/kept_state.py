"""The state of a module that its own passes change: statistics, observers, counts and kept values."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

_TABLES = ("_buffers", "_parameters")


@contextmanager
def kept_state(module: nn.Module) -> Iterator[None]:
    """Restore, at the end of the context, the tensors and the attributes of `module` and of its parts.

    Lists and dictionaries that are attributes keep what was written into them. A module that builds weights
    or parts in the context keeps all of its state, because the new parts belong to it.
    """
    parts = list(module.modules())
    built = _structure(module)
    plain = [part for part in parts if not isinstance(part, torch.jit.ScriptModule)]
    attributes = [
        (part, dict(vars(part)), {name: dict(vars(part)[name]) for name in _TABLES}) for part in plain
    ]
    found: list[Tensor] = [*module.parameters(), *module.buffers()]
    found += [value for part in plain for value in vars(part).values() if isinstance(value, Tensor)]
    copies = [(tensor, tensor.detach().clone()) for tensor in found if not nn.parameter.is_lazy(tensor)]
    try:
        yield
    finally:
        if _structure(module) == built:
            for part, values, tables in attributes:
                vars(part).clear()
                vars(part).update(values)
                for name, table in tables.items():
                    vars(part)[name].clear()
                    vars(part)[name].update(table)
            for tensor, copy in copies:
                _restore(tensor, copy)


def _restore(tensor: Tensor, copy: Tensor) -> None:
    with suppress(Exception), torch.no_grad():  # views that expand, and subclasses, cannot be written
        if tensor.shape == copy.shape:
            tensor.data.copy_(copy)
        else:
            tensor.data = copy


def _structure(module: nn.Module) -> list[Any]:
    """Return the parts of a module and the names of their parameters, those without weights yet apart."""
    return [
        (id(part), type(part), [(name, nn.parameter.is_lazy(p)) for name, p in part.named_parameters()])
        for part in module.modules()
    ]
