"""A user's function, or another callable, as a module."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from blrobust.errors import UserError, describe
from blrobust.models.belongings import belongings


class CallableModule(nn.Module):
    """A callable from pixels to logits as a module; the modules and tensors that belong to it are its parts.

    So the modules get the evaluation mode and the device of a measurement, and the checksum covers their
    weights (`fingerprint`). A tensor that is no parameter is a buffer here, and stays on its device there.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        found = list(belongings(function, leaves=nn.Module))
        self.parts = nn.ModuleList(value for value in found if isinstance(value, nn.Module))
        known = {id(tensor) for tensor in [*self.parts.parameters(), *self.parts.buffers()]}
        tensors = [value for value in found if isinstance(value, Tensor) and id(value) not in known]
        for number, tensor in enumerate(tensors):
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(f"parameter{number}", tensor)
            else:
                self.register_buffer(f"tensor{number}", tensor)

    def forward(self, pixels: Tensor) -> Any:
        """Return what the callable returns for pixels (m, C, H, W)."""
        return self.function(pixels)

    def extra_repr(self) -> str:
        """Return the name of the callable or of its class, for the checksum of the model."""
        return self.origin.rpartition(".")[2]

    @property
    def origin(self) -> str:
        """The module and the name of the callable, or of its class."""
        named = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return f"{named.__module__}.{named.__qualname__}"


def as_module(model: object) -> nn.Module | None:
    """Return a module as it is, and another callable as a module; None for classes and all other objects.

    Raises `UserError` for a callable whose modules raise errors when their tensors are listed.
    """
    if isinstance(model, nn.Module):
        return model
    if not callable(model) or isinstance(model, type):
        return None
    try:
        return CallableModule(model)
    except Exception as error:  # whatever the user's class raises
        raise UserError(f"models: the parts of a {type(model).__name__} fail: {describe(error)}") from error
