"""A bound on the images that a model gets at once."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from blrobust.models.model import Model


class InParts(nn.Module):
    """A model that gets at most `most` images at once, and whose logits are those of all parts."""

    def __init__(self, model: nn.Module, most: int) -> None:
        super().__init__()
        self.model = model
        self.most = most
        self.training = False

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (m, classes) of pixels (m, C, H, W)."""
        if len(pixels) <= self.most:
            whole: Tensor = self.model(pixels)
            return whole
        return torch.cat([self.model(part) for part in torch.split(pixels, self.most)])


def bounded(model: Model, most: int | None) -> Model:
    """Return a model that gets at most `most` images at once; None is no bound."""
    return model if most is None else replace(model, module=InParts(model.module, most))
