"""The logits in the output of a user's own module."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class NoLogitsError(TypeError):
    """The error for an output of a module in which no logits are found.

    Either no matrix fits, or the output is a dictionary with several, none called "logits".

    `found` describes the output in words. `candidates` is the number of matrices that could be logits.
    """

    def __init__(self, output: Any, *, candidates: int = 0) -> None:
        several = f" of {candidates} matrices, none called 'logits'," if candidates > 1 else ""
        self.found = f"{type(output).__name__}{several}"
        super().__init__(f"returned {self.found} without logits (images, classes)")


def find_logits(output: Any, images: int, classes: int) -> Tensor:
    """Return the logits in the output of a module for a number of `images`.

    They are the output itself, if it is a tensor, or its attribute or key `logits`. Otherwise they are the
    first tensor (images, classes) of a tuple or list, or the only such tensor of a dictionary. If no tensor
    has the right number of classes, the first matrix with a row per image is returned, so that the error can
    state its shape. Raises `NoLogitsError` if there is no such matrix, or if a dictionary has several.
    """
    if isinstance(output, Tensor):
        return output
    named = getattr(output, "logits", None)
    members: list[Any] = []
    if isinstance(output, Mapping):
        named = output.get("logits", named)
        members = list(output.values())
    elif isinstance(output, tuple | list):
        members = list(output)
    if isinstance(named, Tensor):
        return named
    matrices = [m for m in members if isinstance(m, Tensor) and m.ndim == 2 and len(m) == images]
    fitting = [matrix for matrix in matrices if matrix.shape[1] == classes] or matrices
    if not fitting or (isinstance(output, Mapping) and len(fitting) > 1):
        raise NoLogitsError(output, candidates=len(fitting))
    return fitting[0]
