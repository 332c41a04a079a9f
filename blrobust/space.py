"""Where a perturbation works: the affine map from pixels, and the bounds there."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Space:
    """Inputs (pixels - mean) / std per channel, within ``bounds``."""

    name: str
    bounds: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def enter(self, pixels: Tensor) -> Tensor:
        """Inputs (m, C, H, W) of the perturbation, in a new tensor."""
        mean, std = self._moments(pixels)
        return ((pixels - mean) / std).clamp(*self.bounds)

    def leave(self, inputs: Tensor) -> Tensor:
        """Pixels (m, C, H, W) of the model."""
        mean, std = self._moments(inputs)
        return inputs * std + mean

    def _moments(self, like: Tensor) -> tuple[Tensor, Tensor]:
        moments = like.new_tensor([self.mean, self.std]).view(2, -1, 1, 1)
        return moments[0], moments[1]


PIXELS = Space("pixel", (0.0, 1.0), (0.0,), (1.0,))  # changes no bit of the pixels
