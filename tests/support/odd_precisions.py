"""Modules in other precisions than float32, inside or in what they return."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from support.plain_model import Plain


class HalfInside(Plain):
    """Computes in bfloat16, whatever `float()` would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear.bfloat16()

    def forward(self, x: Tensor) -> Any:
        return self.linear((x - 0.5).flatten(1).bfloat16())


class RefusesFloat(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.linear.bfloat16()

    def float(self) -> Any:
        raise RuntimeError("quantised models cannot change their precision")


class Double(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).double()


class HalfLogits(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).half()


def int8() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize = torch.ao.quantization.quantize_dynamic
        made: nn.Module = quantize(Plain().eval(), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
        return made


def half() -> nn.Module:
    return Plain().half()


class FloatStaysDouble(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.linear.double()

    def float(self) -> Any:
        return self


class MixedInside(HalfInside):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * self.scale
