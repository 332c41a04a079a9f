"""The precision of a user's own module, for its card (facts for tables and for the record of a run)."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

NAMES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.qint8: "int8",
    torch.quint8: "int8",
}
MIXED = "mixed"


def precision_of(module: nn.Module) -> str:
    """Return the precision of a module's parameters and quantised weights, such as "fp64" or "int8".

    The result is "mixed" if there are several. If there are no weights, it is the precision of the buffers.
    If there are no buffers either, it is "fp32", the precision of the input.
    """
    weights = [*module.parameters(), *_quantised(module)]
    for tensors in (weights, list(module.buffers())):
        found = {_name(t.dtype) for t in tensors if t.is_floating_point() or t.is_quantized}
        if found:
            return found.pop() if len(found) == 1 else MIXED
    return "fp32"


def _name(dtype: torch.dtype) -> str:
    return NAMES.get(dtype, str(dtype).removeprefix("torch."))


def _quantised(module: nn.Module) -> list[Tensor]:
    """Return the quantised tensors in a module's state dict, including those in pairs of weight and bias."""
    with suppress(Exception):  # whatever the user's class raises
        return [tensor for tensor in _tensors(module.state_dict()) if tensor.is_quantized]
    return []


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for member in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(member)
