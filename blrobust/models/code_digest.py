"""The checksum of a user's code and plain attributes, for models whose answers do not identify them."""

import hashlib
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from torch import Tensor, nn

MOST_DEPTH = 8  # of containers and objects within one another


def code_digest(module: nn.Module) -> str:
    """Return the SHA-256 of the code and the plain attributes of a module and of its parts.

    It covers the bytecode of the user's classes and functions, and attributes that are numbers, texts, arrays
    and containers of these; tensors are left out, because the checksum of the model covers them
    (`fingerprint`). Comments and docstrings do not count. The bytecode of another version of Python differs.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        digest.update(f"{name} {type(part).__qualname__}\n".encode())
        for text in (*_of_class(type(part)), *_of_value(_attributes(part), 0)):
            digest.update(text.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def _attributes(part: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are not torch's own."""
    return {name: value for name, value in vars(part).items() if name not in _TORCHS}


_TORCHS = frozenset(vars(nn.Module()))


def _is_users(owner: Any) -> bool:
    package = (getattr(owner, "__module__", None) or "torch").partition(".")[0]
    return package not in ("torch", "torchvision", "builtins", "numpy", "blconv", "blrobust")


def _of_class(kind: type) -> Iterator[str]:
    """Yield the functions and plain attributes of a class and of the user's classes that it derives from."""
    for base in kind.__mro__:
        if _is_users(base):
            for name, value in sorted(vars(base).items()):
                if not name.startswith("__") or isinstance(value, FunctionType):
                    yield from (name, *_of_value(value, 1))


def _of_value(value: Any, depth: int) -> Iterator[str]:
    """Yield texts that describe a value; nothing for tensors, and the class alone for other objects."""
    if isinstance(value, Tensor | nn.Module) or depth > MOST_DEPTH:
        return
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        yield f"{type(value).__name__} {value!r}\n"
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}\n"
    elif isinstance(value, set | frozenset):
        yield from sorted("".join(_of_value(member, depth + 1)) for member in value)
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from (*_of_value(key, depth + 1), *_of_value(member, depth + 1))
    elif isinstance(value, list | tuple):
        yield f"{len(value)}\n"
        for member in value:
            yield from _of_value(member, depth + 1)
    elif isinstance(value, FunctionType):
        yield from _of_code(value.__code__)
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        yield from _of_value([value.__defaults__, value.__kwdefaults__, cells], depth + 1)
    else:
        function = getattr(value, "__func__", getattr(value, "fget", None))  # of methods and properties
        yield type(value).__qualname__
        if isinstance(function, FunctionType):
            yield from _of_value(function, depth + 1)
        elif _is_users(type(value)) and isinstance(getattr(value, "__dict__", None), dict):
            yield from (*_of_class(type(value)), *_of_value(vars(value), depth + 1))


def _of_code(code: CodeType) -> Iterator[str]:
    """Yield the bytecode, names and constants of a function and of those inside it, without docstrings."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}\n"
    for place, constant in enumerate(code.co_consts):
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        elif not (place == 0 and isinstance(constant, str)):  # the docstring
            yield from _of_value(constant, MOST_DEPTH - 2)
