"""Modules that keep tensors from earlier calls."""

from typing import Any

import torch
from torch import Tensor

from support.plain_model import Plain


class Caches(Plain):
    """Keeps a tensor made from its first input."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor | None = None

    def forward(self, x: Tensor) -> Any:
        if self.scale is None:
            self.scale = torch.ones_like(x[:1])
        return super().forward(x * self.scale)


class Remembers(Plain):
    """Keeps the logits of every image, without their gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[bytes, Tensor] = {}

    def forward(self, x: Tensor) -> Any:
        rows = []
        for image in x:
            key = image.detach().numpy().tobytes()
            rows.append(self.kept[key] if key in self.kept else super().forward(image[None])[0])
            self.kept[key] = rows[-1].detach()
        return torch.stack(rows)
