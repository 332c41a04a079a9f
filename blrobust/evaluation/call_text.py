"""A call from Python as text, which replaces the command line in the record of a run."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from blrobust.errors import shorten, shown

MOST = 2000  # characters of the whole text


def call_text(function: str, models: Any, **arguments: Any) -> str:
    """Return the call `blrobust.FUNCTION(models, ...)` as one line, without the arguments that are None.

    Modules and images are shown by their type, because no text could restore them.
    """
    given = [_value(models)]
    given += [f"{name}={_value(value)}" for name, value in arguments.items() if value is not None]
    return shorten(f"blrobust.{function}({', '.join(given)})", MOST)


def _value(value: Any) -> str:
    if isinstance(value, nn.Module):
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{shown(key)}: {_value(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list | tuple):
        inner = ", ".join(map(_value, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, torch.device):
        return repr(str(value))
    if value is None or isinstance(value, str | bool | int | float):
        return shown(value)
    shape = getattr(value, "shape", None)
    return f"<{type(value).__name__}{'' if shape is None else f' {tuple(shape)}'}>"
