"""Forward passes of a probe: logits with seeded generators, which leave the state of a user's module."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blrobust.errors import UserError, describe
from blrobust.models.own_model import own_state_kept
from blrobust.perturbations.seeding import seeded


def first_logits(model: nn.Module, pixels: Tensor, *, gradients: bool = False) -> NDArray[np.float32]:
    """Return the logits (m, classes) of pixels, and restore the state of a user's module.

    Raises the errors of `logits_of`.
    """
    with own_state_kept(model):
        return logits_of(model, pixels, seed=0, gradients=gradients)


def logits_of(model: nn.Module, pixels: Tensor, *, seed: int, gradients: bool = False) -> NDArray[np.float32]:
    """Return logits float32 (m, classes), with `seed` as the seed of the global random generators.

    With `gradients`, torch's gradients are enabled and the pixels require gradients. Raises `UserError` if
    the model fails or memory is full.
    """
    try:
        # Not inference mode, in which a model cannot compute gradients itself.
        with seeded("probe", seed, device=pixels.device), torch.set_grad_enabled(gradients):
            inputs = pixels.clone().requires_grad_() if gradients else pixels
            found: NDArray[np.float32] = model(inputs).detach().float().cpu().numpy().copy()
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(f"{pixels.device} has too little free memory: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # any error of the user's own model
        raise UserError(f"the network failed: {describe(error)}") from error
    return found
