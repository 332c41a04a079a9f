"""A limit on the number of images that a model gets in one forward pass."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from blrobust.models.model import Model


class InParts(nn.Module):
    """A model that splits its input into parts of at most `most` images and joins the logits."""

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
    """Return a model that gets at most `most` images in one forward pass; None means no limit."""
    return model if most is None else replace(model, module=InParts(model.module, most))
