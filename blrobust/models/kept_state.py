"""The state that a module changes in its own passes: statistics, counters, caches and random generators."""

import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blrobust.models.user_objects import is_users

_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)


@contextmanager
def kept_state(module: nn.Module) -> Iterator[None]:
    """Restore, at the end of the context, everything that `module` can change in a pass.

    This covers the parameters, buffers and attributes of the module and of its parts, and the objects of the
    user's classes, containers, arrays and random generators that can be reached from them. A module that
    builds parameters or parts in the context keeps all of its state, because the new parts belong to it. An
    object whose state cannot be read keeps it; if the memory is full, all objects do.
    """
    snapshot = _Snapshot()
    built: Any = None
    with suppress(Exception):  # whatever the user's class raises
        built = _structure(module)
        snapshot.take(module)
    try:
        yield
    finally:
        with suppress(Exception):
            if built == _structure(module):
                snapshot.restore()


@contextmanager
def _unless_memory_is_full() -> Iterator[None]:
    """Suppress the errors of a user's objects, but not those of full memory."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:
        pass


class _Snapshot:
    """Copies of objects, and functions that write the copies back into the same objects."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # the objects by their ids, which are kept alive
        self._restorers: list[Callable[[], Any]] = []

    def take(self, root: Any) -> None:
        """Copy the state of an object and of all that belongs to it; after an error, there is no copy."""
        restorers, todo = [], [root]
        while todo:
            value = todo.pop()
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                restorer = None
                with _unless_memory_is_full():
                    restorer = _restorer(value)
                if restorer is not None:
                    restorers.append(restorer)
                with _unless_memory_is_full():
                    todo.extend(_members(value))
        self._restorers = restorers

    def restore(self) -> None:
        """Write all copies back; objects that cannot be written keep their present state."""
        for restorer in self._restorers:
            with suppress(Exception):
                restorer()


def _members(value: Any) -> Iterable[Any]:
    """Return the objects that belong to an object: members of containers, and the attributes of objects."""
    kind = type(value)
    if kind in _MAPPINGS:
        return list(value.values())
    if kind in (list, tuple, deque):
        return list(value)
    if isinstance(value, nn.Module | torch.optim.Optimizer) or (
        is_users(kind) and not isinstance(value, type)
    ):
        attributes = getattr(value, "__dict__", None)  # none for objects with slots
        return [attributes] if type(attributes) is dict and not _is_scripted(value) else []
    return []


def _is_scripted(value: Any) -> bool:
    return isinstance(value, torch.jit.ScriptModule)


def _restorer(value: Any) -> Callable[[], Any] | None:
    """Return a function that gives an object its present state back; None if the object has none."""
    kind = type(value)
    if kind in _MAPPINGS:
        return _container_restorer(value, kind.items, lambda items: [value.__setitem__(*i) for i in items])
    if kind in (list, deque):
        return _container_restorer(value, iter, value.extend)
    if kind is set:
        return _container_restorer(value, iter, value.update)
    if isinstance(value, Tensor):
        return _tensor_restorer(value)
    if isinstance(value, np.ndarray):
        array = value.copy()
        return lambda: None if _same_bytes(value, array) else np.copyto(value, array)
    if _is_scripted(value):
        restorers = [_tensor_restorer(tensor) for tensor in [*value.parameters(), *value.buffers()]]
        return lambda: [restore() for restore in restorers if restore is not None]
    return _generator_restorer(value)


def _container_restorer(
    container: Any, read: Callable[[Any], Iterable[Any]], fill: Callable[[list[Any]], Any]
) -> Callable[[], None]:
    """Return a function that fills a container with its present content, if it has another one by then.

    Compilers of torch would compile a module again if its dictionaries were written for no reason.
    """
    members = list(read(container))

    def restore() -> None:
        if _identities(read(container)) != _identities(members):
            container.clear()
            fill(members)

    return restore


def _identities(members: Iterable[Any]) -> list[Any]:
    return [tuple(map(id, member)) if type(member) is tuple else id(member) for member in members]


def _tensor_restorer(tensor: Tensor) -> Callable[[], None] | None:
    if nn.parameter.is_lazy(tensor) or tensor.is_meta:
        return None
    copy = tensor.detach().clone()

    def restore() -> None:
        with torch.no_grad():
            same = (tensor.shape, tensor.dtype, tensor.device) == (copy.shape, copy.dtype, copy.device)
            if not same:
                tensor.data = copy
            elif not _equal(tensor, copy):  # memory that is only mapped for reading cannot be written
                tensor.data.copy_(copy)

    return restore


def _equal(tensor: Tensor, copy: Tensor) -> bool:
    """Return whether a tensor has the values of its copy; False for NaN, and if they cannot be compared."""
    try:
        return torch.equal(tensor.detach(), copy)
    except RuntimeError:  # some layouts and dtypes
        return False


def _same_bytes(array: np.ndarray[Any, Any], copy: np.ndarray[Any, Any]) -> bool:
    return array.shape == copy.shape and array.tobytes() == copy.tobytes()


def _generator_restorer(value: Any) -> Callable[[], Any] | None:
    if isinstance(value, torch.Generator):
        of_torch = value.get_state()
        return lambda: value.set_state(of_torch)
    if isinstance(value, random.Random):
        of_python = value.getstate()
        return lambda: value.setstate(of_python)
    if isinstance(value, np.random.RandomState):
        legacy = value.get_state()
        return lambda: value.set_state(legacy)
    if isinstance(value, np.random.Generator):
        bits, of_numpy = value.bit_generator, value.bit_generator.state
        return lambda: setattr(bits, "state", of_numpy)
    return None


def _structure(module: nn.Module) -> list[Any]:
    """Return the parts of a module and the names of their parameters, those without data marked."""
    return [
        (id(part), type(part), [(name, nn.parameter.is_lazy(p)) for name, p in part.named_parameters()])
        for part in module.modules()
    ]
