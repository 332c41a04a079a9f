"""The input space of a perturbation: an affine map of pixels, and bounds."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Space:
    """The space of inputs (pixels - mean) / std within `bounds`, with a mean and std per colour channel."""

    name: str
    bounds: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def enter(self, pixels: Tensor) -> Tensor:
        """Return the inputs (m, C, H, W) in this space that belong to `pixels`, as a new tensor."""
        if self == PIXELS:
            return pixels.clamp(*self.bounds)
        mean, std = _moments(self, pixels.device)
        return ((pixels - mean) / std).clamp(*self.bounds)

    def leave(self, inputs: Tensor) -> Tensor:
        """Return the pixels (m, C, H, W) that belong to `inputs`; in pixel space, this is `inputs` itself."""
        if self == PIXELS:
            return inputs
        mean, std = _moments(self, inputs.device)
        return inputs * std + mean


@lru_cache
def _moments(space: Space, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (C, 1, 1) of the space on `device`.

    The results are cached, because a copy from the CPU to a GPU waits for all work of the GPU.
    """
    with torch.inference_mode(False):  # noise is measured in this mode, but gradients may follow
        mean, std = (
            torch.tensor(moment, dtype=torch.float32, device=device).view(-1, 1, 1)
            for moment in (space.mean, space.std)
        )
    return mean, std


PIXELS = Space("pixel", (0.0, 1.0), (0.0,), (1.0,))
