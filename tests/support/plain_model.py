"""The module that the odd ones vary: fixed weights, images of 3 x 6 x 6, three classes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SHAPE = (3, 6, 6)


class Plain(nn.Module):
    """Fixed weights, so that every variant classifies alike."""

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.linear = nn.Linear(108, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(3, 108, generator=source) / 3)
            self.linear.bias.zero_()

    def forward(self, x: Tensor) -> Any:
        return self.linear((x - 0.5).flatten(1))


def write_images(path: Path) -> None:
    """Write twelve images with the labels that the plain model predicts, but for two."""
    pixels = np.random.default_rng(0).random((12, *SHAPE), dtype=np.float32)
    with torch.no_grad():
        labels = Plain()(torch.from_numpy(pixels)).argmax(1).numpy()
    labels[:2] = (labels[:2] + 1) % 3
    np.savez(path, x=pixels, y=labels, classes=np.array(["a", "b", "c"]))
