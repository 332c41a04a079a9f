"""Functions that give objects their present state back: containers, tensors, names and generators."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from types import CellType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blrobust.models.belongings import CACHED, container_of, script_attributes, slot_values, used_names
from blrobust.models.user_objects import is_own, is_users

Restorer = Callable[[], object]


def restorers(value: Any) -> Iterator[Restorer]:
    """Yield functions that give an object its present state back; none if the object has no state.

    The members and attributes of an object are objects with restorers of their own
    (`belongings.belongings`). Raises the errors of the user's objects.
    """
    kind, container = type(value), container_of(value)
    if isinstance(value, type):
        if is_own(value) and not issubclass(value, Enum):
            yield _of_class(value)
        return
    if is_users(kind):
        yield _of_names(partial(slot_values, value), *_slot_writers(value))
    if isinstance(value, Tensor):
        if not (nn.parameter.is_lazy(value) or value.is_meta):
            yield _of_tensor(value)
    elif isinstance(value, np.ndarray):
        array = value.copy()
        yield lambda: None if _same_bytes(value, array) else np.copyto(value, array)
    elif isinstance(value, torch.jit.ScriptModule):
        yield _of_names(
            partial(script_attributes, value), lambda key, new: key[0].setattr(key[1], new), lambda key: None
        )
    elif isinstance(value, FunctionType):
        for space, names in used_names(value):
            yield _of_names(partial(_part, space, names), space.__setitem__, space.__delitem__)
    elif isinstance(value, CellType):
        yield _of_names(partial(_content, value), partial(setattr, value), partial(delattr, value))
    elif isinstance(value, CACHED):
        if value.cache_info().currsize == 0:
            yield value.cache_clear
    elif container not in (None, tuple):
        yield _of_container(value, container)
    else:
        yield from _of_generator(value)


def _of_names(
    read: Callable[[], Mapping[Any, Any]],
    write: Callable[[Any, Any], object],
    remove: Callable[[Any], object],
) -> Restorer:
    """Return a function that gives names their present values back, and removes those without one.

    `read` returns the values by name, without the names that have none. A name that cannot be written keeps
    its value.
    """
    before = dict(read())

    def restore() -> None:
        now = read()
        for name in now.keys() - before.keys():
            with suppress(Exception):
                remove(name)
        for name, value in before.items():
            if name not in now or now[name] is not value:
                with suppress(Exception):
                    write(name, value)

    return restore


def _of_class(kind: type) -> Restorer:
    def read() -> dict[str, Any]:
        return {name: value for name, value in vars(kind).items() if not name.startswith("__")}

    return _of_names(read, partial(type.__setattr__, kind), partial(type.__delattr__, kind))


def _slot_writers(value: Any) -> tuple[Callable[[Any, Any], object], Callable[[Any], object]]:
    return lambda slot, content: slot.__set__(value, content), lambda slot: slot.__delete__(value)


def _part(space: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: space[name] for name in names if name in space}


def _content(cell: CellType) -> dict[str, Any]:
    try:
        return {"cell_contents": cell.cell_contents}
    except ValueError:  # it is empty
        return {}


def _of_container(container: Any, base: Any) -> Restorer:
    """Return a function that fills a container with its present content, if it has another one by then.

    `base` is the class of `CONTAINERS` whose methods are used. Compilers of torch would compile a module
    again if its dictionaries were written for no reason.
    """
    is_mapping = issubclass(base, dict)

    def members() -> list[Any]:
        return list(base.items(container) if is_mapping else base.__iter__(container))

    before = members()

    def restore() -> None:
        if _identities(members()) == _identities(before):
            return
        base.clear(container)
        if is_mapping:
            for key, value in before:
                base.__setitem__(container, key, value)
        else:
            (base.update if base is set else base.extend)(container, before)

    return restore


def _identities(members: Iterable[Any]) -> list[Any]:
    return [tuple(map(id, member)) if type(member) is tuple else id(member) for member in members]


def _of_tensor(tensor: Tensor) -> Restorer:
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


def _of_generator(value: Any) -> Iterator[Restorer]:
    if isinstance(value, torch.Generator):
        of_torch = value.get_state()
        yield lambda: value.set_state(of_torch)
    elif isinstance(value, random.Random):
        of_python = value.getstate()
        yield lambda: value.setstate(of_python)
    elif isinstance(value, np.random.RandomState):
        legacy = value.get_state()
        yield lambda: value.set_state(legacy)
    elif isinstance(value, np.random.Generator):
        bits, of_numpy = value.bit_generator, value.bit_generator.state
        yield lambda: setattr(bits, "state", of_numpy)
