"""Models of the user's own code: a function without arguments, named by its module, returns the model."""

import importlib
import sys
from types import ModuleType
from weakref import WeakKeyDictionary

import torch

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError, describe
from blrobust.models.callable_module import as_module
from blrobust.models.global_settings import unchanged_settings
from blrobust.models.model import Model, check_weights
from blrobust.models.own_module import load_module
from blrobust.user_output import prints_counted

# By module of the user: torch's default dtype at the end of its first import, used for each of its factories.
_DEFAULT_DTYPES: WeakKeyDictionary[ModuleType, torch.dtype] = WeakKeyDictionary()


def from_factory(label: str, target: str, dataset: Dataset, device: torch.device) -> Model:
    """Return the user's own model that the factory `target`, "PACKAGE.MODULE:FUNCTION", makes.

    It is checked on the first images of `dataset`. Raises `UserError` if the factory fails, or if the result
    is no model.
    """
    module_name, _, factory = target.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the user's module lies where the command is run
    try:
        with unchanged_settings(), prints_counted():
            code = importlib.import_module(module_name)
            torch.set_default_dtype(_DEFAULT_DTYPES.setdefault(code, torch.get_default_dtype()))
            made = getattr(code, factory)()
            module = as_module(made)
            default_dtype = torch.get_default_dtype()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises
        raise UserError(f"model {label!r}: {target} failed: {describe(error)}") from error
    if module is None:
        raise UserError(
            f"model {label!r}: {target} returned a {type(made).__name__}, not an nn.Module or another "
            "callable from pixels to logits; legal: a function, as lambda x: net.predict(x)"
        )
    check_weights(label, module)
    return load_module(
        label, module, target=target, dataset=dataset, device=device, default_dtype=default_dtype
    )
