"""The checksum of a user's own module: its structure and all its tensors, of any dtype, on any device."""

import hashlib
import pickle
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from blrobust.models.user_objects import is_own

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # in memory, another one in each process
_TEXTS = {"__repr__", "__str__", "extra_repr", "_get_name"}  # methods that write a `repr`


def fingerprint(module: nn.Module, *, exact: bool, skip: Collection[str] = ()) -> str:
    """Return the SHA-256 of a module, which is the same in each process.

    It covers the structure (`_structure`), the state dict, buffers that the state dict leaves out, tensors
    and NumPy arrays that are plain attributes, and the code of scripted and traced modules. Unless `exact`,
    floating-point tensors are converted to float32 first. `skip` are the names of tensors outside the state
    dict that are left out. Raises `ValueError` for a lazy module before its first pass.
    """
    digest = hashlib.sha256(_structure(module).encode())
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule | fx.GraphModule):
            digest.update(str(getattr(part, "code", "")).encode())
    state = module.state_dict()
    further = [(key, value) for key, value in _further_tensors(module, state) if key not in skip]
    for key, value in [*state.items(), *further]:
        digest.update(key.encode())
        for content in _contents(value, exact=exact):
            digest.update(content)
    return digest.hexdigest()


def scratch_digests(module: nn.Module) -> dict[str, str]:
    """Return checksums of the tensors outside the state dict, by name; empty if they cannot be read.

    Tensors that a pass writes, such as scratch memory and caches, are found by a comparison of two results.
    """
    found = {}
    try:
        for key, value in _further_tensors(module, module.state_dict()):
            content = b"".join(_contents(value, exact=True))
            found[key] = hashlib.sha256(content).hexdigest()
    except Exception:  # whatever the user's class raises
        return {}
    return found


def _structure(module: nn.Module) -> str:
    """Return the `repr` of a module without addresses, for settings that have no tensors.

    If the user's own code writes a part of the `repr`, which can differ between processes, the text has
    instead the names and the classes of the parts, and the settings of those of libraries.
    """
    parts = dict(module.named_modules())
    if not any(map(_writes_repr, parts.values())):
        with suppress(Exception):  # whatever the user's class raises
            return _ADDRESS.sub("", repr(module))
    return "\n".join(f"{name}: {type(part).__qualname__}({_settings(part)})" for name, part in parts.items())


def _writes_repr(module: nn.Module) -> bool:
    """Return whether the user's own code writes text of the `repr` of a module."""
    spaces = [vars(base) for base in type(module).__mro__ if is_own(base)]
    return any(_TEXTS & space.keys() for space in [vars(module), *spaces])


def _settings(module: nn.Module) -> str:
    """Return the settings of a library's module as text; no text if the user's own code writes it."""
    if not _writes_repr(module):
        with suppress(Exception):
            return _ADDRESS.sub("", module.extra_repr())
    return ""


def _further_tensors(module: nn.Module, state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and values of tensors of the module that its state dict `state` leaves out."""
    for key, buffer in module.named_buffers():
        if key not in state:
            yield key, buffer
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                value = torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
            if isinstance(value, Tensor):
                yield f"{name}.{key}", value


def _contents(value: Any, *, exact: bool) -> Iterator[bytes]:
    """Yield the bytes of one value of a state dict."""
    if isinstance(value, Tensor):
        yield from _bytes(value.detach(), exact=exact)
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield repr(key).encode()
            yield from _contents(member, exact=exact)
    elif isinstance(value, tuple | list):
        for member in value:
            yield from _contents(member, exact=exact)
    elif isinstance(value, set | frozenset):  # in an order that depends on the process
        yield from sorted(b"".join(_contents(member, exact=exact)) for member in value)
    else:
        try:
            yield pickle.dumps(value, protocol=4)
        except Exception:  # whatever the user's class raises
            yield type(value).__qualname__.encode()


def _bytes(tensor: Tensor, *, exact: bool) -> Iterator[bytes]:
    if nn.parameter.is_lazy(tensor):
        raise ValueError("a lazy module has no weights yet")
    if hasattr(tensor, "__tensor_flatten__"):  # a subclass made of other tensors
        for name in tensor.__tensor_flatten__()[0]:
            yield name.encode()
            yield from _bytes(getattr(tensor, name), exact=exact)
        return
    if tensor.is_quantized:
        yield repr(tensor.qscheme()).encode()
        tensor = tensor.dequantize()
    if tensor.is_meta:
        yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
        return
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if type(tensor) is not Tensor:
        tensor = tensor.as_subclass(Tensor)
    if tensor.is_floating_point() and not exact:
        tensor = tensor.float()
    plain = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    yield plain.view(torch.uint8).numpy().tobytes()
