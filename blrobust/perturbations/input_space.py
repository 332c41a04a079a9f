"""The input space of a perturbation: an affine map from pixels, and bounds."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Space:
    """Inputs (pixels - mean) / std per channel, within `bounds`."""

    name: str
    bounds: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def enter(self, pixels: Tensor) -> Tensor:
        """Return the inputs (m, C, H, W) of pixels, in a new tensor."""
        if self == PIXELS:
            return pixels.clamp(*self.bounds)
        mean, std = _moments(self, pixels.device)
        return ((pixels - mean) / std).clamp(*self.bounds)

    def leave(self, inputs: Tensor) -> Tensor:
        """Return the pixels (m, C, H, W) of inputs; in pixel space, these are `inputs` themselves."""
        if self == PIXELS:
            return inputs
        mean, std = _moments(self, inputs.device)
        return inputs * std + mean


@lru_cache
def _moments(space: Space, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (C, 1, 1); cached, as a copy to a GPU synchronises with it."""
    with torch.inference_mode(False):  # noise is measured in this mode, but gradients may follow
        mean, std = (torch.tensor(moment, device=device).view(-1, 1, 1) for moment in (space.mean, space.std))
    return mean, std


PIXELS = Space("pixel", (0.0, 1.0), (0.0,), (1.0,))
