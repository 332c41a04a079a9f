"""The checksum of a user's code and plain attributes, for models whose answers do not identify them."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from torch import Tensor, nn

from blrobust.models.belongings import HOLDERS, PARTS, slot_values, used_names
from blrobust.models.user_objects import is_users

MOST_DEPTH = 8  # of containers and objects within one another
HAS_DOCSTRING = 0x4000000  # the flag of code from Python 3.14 on, where the first constant is the docstring


def code_digest(module: nn.Module) -> str:
    """Return the SHA-256 of the code and the plain attributes of a module and of its parts.

    It covers the bytecode of the user's classes and functions, and attributes, closures and global variables
    that are numbers, texts, arrays and containers of these. Tensors are left out, because the checksum of the
    model covers them (`fingerprint`). Comments and docstrings do not count. The bytecode of another version
    of Python differs. May raise any error of the user's own objects.
    """
    reader, digest = _Reader(), hashlib.sha256()
    for name, part in module.named_modules():
        digest.update(f"{name} {type(part).__qualname__}\n".encode())
        attributes = {key: value for key, value in vars(part).items() if key not in _OF_EVERY_MODULE}
        for text in (*reader.of_class(type(part), 0), *reader.of_value(attributes, 0)):
            digest.update(text.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


class _Reader:
    """Yields texts that describe values; each class and each object of a user once."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # by id, and kept alive

    def of_class(self, kind: type, depth: int) -> Iterator[str]:
        """Yield the functions and plain attributes of a class and of the user's classes it derives from."""
        for base in kind.__mro__:
            if is_users(base) and self._is_new(base):
                for name, value in sorted(vars(base).items()):
                    if not name.startswith("__") or isinstance(value, FunctionType):
                        yield from (name, *self.of_value(value, depth + 1))

    def of_value(self, value: Any, depth: int) -> Iterator[str]:
        """Yield texts for a value; none for tensors, and the class alone for objects of libraries."""
        if isinstance(value, Tensor | nn.Module) or depth > MOST_DEPTH:
            return
        if isinstance(value, Enum):
            yield f"{type(value).__qualname__} {value.name}\n"
        elif isinstance(value, bool | int | float | complex | str | bytes | None):
            yield f"{type(value).__name__} {value!r}\n"
        elif isinstance(value, np.ndarray):
            yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}\n"
        elif isinstance(value, set | frozenset):
            yield from sorted("".join(self.of_value(member, depth + 1)) for member in value)
        elif isinstance(value, dict):
            for key, member in value.items():
                yield from (*self.of_value(key, depth + 1), *self.of_value(member, depth + 1))
        elif isinstance(value, list | tuple):
            yield f"{len(value)}\n"
            for member in value:
                yield from self.of_value(member, depth + 1)
        else:
            yield from self._of_object(value, depth)

    def _of_object(self, value: Any, depth: int) -> Iterator[str]:
        if isinstance(value, FunctionType):
            yield value.__qualname__
            if self._is_new(value):
                yield from self._of_function(value, depth)
        elif type(value) in PARTS:
            yield from self.of_value([getattr(value, name) for name in PARTS[type(value)]], depth + 1)
        elif isinstance(value, type):
            yield from (value.__qualname__, *self.of_class(value, depth + 1))
        else:
            yield type(value).__qualname__
            if (isinstance(value, HOLDERS) or is_users(type(value))) and self._is_new(value):
                slots = {slot.__name__: content for slot, content in slot_values(value).items()}
                yield from self.of_class(type(value), depth + 1)
                yield from self.of_value([getattr(value, "__dict__", None), slots], depth + 1)

    def _of_function(self, function: FunctionType, depth: int) -> Iterator[str]:
        """Yield the code of a function, and its closure and the user's global variables that it names."""
        yield from self._of_code(function.__code__)
        yield from self.of_value([function.__defaults__, function.__kwdefaults__], depth + 1)
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # an empty one
                yield from self.of_value(cell.cell_contents, depth + 1)
        for space, names in used_names(function):
            for name in names:
                if name in space:
                    yield from (name, *self.of_value(space[name], depth + 1))

    def _is_new(self, value: Any) -> bool:
        if id(value) in self._seen:
            return False
        self._seen[id(value)] = value
        return True

    def _of_code(self, code: CodeType) -> Iterator[str]:
        """Yield the bytecode, names and constants of a function and of those in it, without docstrings."""
        yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}\n"
        is_documented = sys.version_info < (3, 14) or code.co_flags & HAS_DOCSTRING
        for place, constant in enumerate(code.co_consts):
            if isinstance(constant, CodeType):
                yield from self._of_code(constant)
            elif not (place == 0 and is_documented and isinstance(constant, str)):
                yield from self.of_value(constant, 0)
