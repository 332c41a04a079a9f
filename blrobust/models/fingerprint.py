"""The checksum of a user's own module: its structure and all its tensors, of any dtype, on any device."""

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn


def fingerprint(module: nn.Module, *, exact: bool) -> str:
    """Return the SHA-256 of a module.

    It covers the `repr` (for settings without tensors), the state dict, buffers that the state dict leaves
    out, tensors that are plain attributes, and the code of scripted and traced modules. Unless `exact`,
    floating-point tensors are converted to float32 first. Raises `ValueError` for a lazy module before its
    first pass.
    """
    digest = hashlib.sha256(_structure(module).encode())
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule | fx.GraphModule):
            digest.update(str(getattr(part, "code", "")).encode())
    state = module.state_dict()
    for key, value in [*state.items(), *_further_tensors(module, state)]:
        digest.update(key.encode())
        for content in _contents(value, exact=exact):
            digest.update(content)
    return digest.hexdigest()


def _structure(module: nn.Module) -> str:
    """Return the `repr` of the module, or the name of its class if `repr` raises an error."""
    try:
        return repr(module)
    except Exception:  # whatever the user's class raises
        return type(module).__qualname__


def _further_tensors(module: nn.Module, state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and values of tensors of the module that its state dict `state` leaves out."""
    for key, buffer in module.named_buffers():
        if key not in state:
            yield key, buffer
    for name, part in module.named_modules():
        for key, value in vars(part).items():
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
