"""The objects that belong to an object: attributes, members, and the names that the user's code uses."""

from argparse import Namespace
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property, lru_cache, partial, partialmethod
from threading import local
from types import (
    CellType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import torch
from torch import Tensor, nn

from blrobust.models.user_objects import is_own, is_own_module, is_users

CONTAINERS = (OrderedDict, defaultdict, Counter, dict, list, deque, set, tuple)
CACHED = type(lru_cache(repr))  # a function with a cache
HOLDERS = (SimpleNamespace, Namespace, UserDict, UserList, local, nn.Module, torch.optim.Optimizer)
PARTS: dict[type, tuple[str, ...]] = {
    CACHED: ("__wrapped__",),
    CellType: ("cell_contents",),
    MethodType: ("__self__", "__func__"),
    cached_property: ("func",),
    classmethod: ("__func__",),
    partial: ("func", "args", "keywords"),
    partialmethod: ("func", "args", "keywords"),
    property: ("fget", "fset"),
    staticmethod: ("__func__",),
}


def belongings(root: Any, *, leaves: type | tuple[()] = ()) -> Iterator[Any]:
    """Yield an object and all that belongs to it, each object once.

    Of the user's classes and global variables, only those belong to it that the code of its `forward` may
    use, not the data of a method that trains. Members of objects of the class `leaves` are left out. Objects
    whose members cannot be listed have none. Raises `MemoryError` if the memory is full.
    """
    seen: dict[int, Any] = {}  # by id, and kept alive
    names: set[str] = set()  # in the code so far
    unnamed: dict[str, list[Any]] = {}  # attributes of classes that this code does not name
    todo = [root]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        yield value
        if isinstance(value, leaves):
            continue
        try:
            todo.extend(_members(value))
            if isinstance(value, type) and is_own(value):
                for name, attribute in vars(value).items():
                    is_named = name in names or (name.startswith(("__", "forward")) and name != "__init__")
                    (todo if is_named else unnamed.setdefault(name, [])).append(attribute)
            elif isinstance(value, FunctionType):
                names.update(code_names(value.__code__))
                for name in sorted(names & unnamed.keys()):
                    todo.extend(unnamed.pop(name))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # whatever the user's class raises
            continue


def container_of(value: Any) -> Any:
    """Return the class in `CONTAINERS` that an object is of, also through a class of a user; None if none."""
    kind = type(value)
    bases = (base for base in CONTAINERS if isinstance(value, base) and (kind is base or is_users(kind)))
    return next(bases, None)


def slot_values(value: Any) -> dict[MemberDescriptorType, Any]:
    """Return the values of the slots of an object of a user's class; empty slots are left out."""
    found: dict[MemberDescriptorType, Any] = {}
    for base in type(value).__mro__:
        for slot in vars(base).values() if is_users(base) else ():
            if isinstance(slot, MemberDescriptorType):
                with suppress(AttributeError):
                    found[slot] = slot.__get__(value)
    return found


def script_attributes(module: torch.jit.ScriptModule) -> dict[tuple[Any, str], Any]:
    """Return the values of the attributes of a scripted module and its parts, by C++ object and name."""
    found: dict[tuple[Any, str], Any] = {}
    for part in module.modules():
        inner: Any = part._c
        kind: Any = torch._C.ConcreteModuleType.from_jit_type(inner._type())
        found |= {(inner, name): inner.getattr(name) for name in kind.get_attributes()}
    return found


def used_names(function: FunctionType) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield namespaces of the user's own modules with the names in them that a function may use.

    The names are those in its code: global variables, and attributes of the user's modules among them.
    """
    names = list(code_names(function.__code__))
    todo, seen = [function.__globals__], set()
    while todo:
        space = todo.pop()
        if id(space) not in seen and is_own_module(space.get("__name__")):
            seen.add(id(space))
            yield space, names
            todo += [vars(space[name]) for name in names if isinstance(space.get(name), ModuleType)]


def code_names(code: CodeType) -> dict[str, None]:
    """Return the names of global variables and attributes in code, and its texts, which may be such names."""
    found = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= code_names(constant)
        elif isinstance(constant, str):
            found[constant] = None
    return found


def _members(value: Any) -> list[Any]:
    kind = type(value)
    if isinstance(value, type):
        return list(value.__mro__[1:]) if is_own(value) else []
    if isinstance(value, torch.jit.ScriptModule):
        tensors = [of for of in script_attributes(value).values() if isinstance(of, Tensor)]
        return [*value.parameters(), *value.buffers(), *tensors]
    if isinstance(value, FunctionType):
        return _members_of_function(value)
    found: list[Any] = [kind] if is_own(kind) else []
    base = container_of(value)
    if base is not None:
        is_mapping = issubclass(base, dict)
        found += base.values(value) if is_mapping else base.__iter__(value)
    found += [getattr(value, name) for name in PARTS.get(kind, ())]
    if isinstance(value, HOLDERS) or is_users(kind):
        attributes = getattr(value, "__dict__", None)
        found += [attributes] if type(attributes) is dict else []
        found += slot_values(value).values()
    return found


def _members_of_function(function: FunctionType) -> list[Any]:
    """Return the objects that a function uses; of one of a library, only the function that it wraps."""
    if not is_own_module(function.__globals__.get("__name__")):
        return [vars(function).get("__wrapped__")]
    found = [*(function.__closure__ or ()), function.__defaults__, function.__kwdefaults__, vars(function)]
    for space, names in used_names(function):
        found += [space[name] for name in names if name in space]
    return found
