"""Modules that fail on some images: on more than a few, or on those that a perturbation makes."""

import asyncio
from typing import Any

import torch
from torch import Tensor, nn

from support.plain_model import Plain


class Fails(Plain):
    """Works on two images, and on one, but not on a block."""

    def forward(self, x: Tensor) -> Any:
        if len(x) > 2:
            raise self.error("no more\nthan two")
        return super().forward(x)

    error: type[BaseException] = RuntimeError


class Few(Plain):
    """Takes at most five images."""

    def forward(self, x: Tensor) -> Any:
        assert len(x) <= 5, "more than five images"
        return super().forward(x)


class OnlyOne(Plain):
    def forward(self, x: Tensor) -> Any:
        if len(x) != 1:
            raise ValueError("one image at a time")
        return super().forward(x)


class FailsOnBlack(Plain):
    def forward(self, x: Tensor) -> Any:
        if (x.amax((1, 2, 3)) == 0).any():
            raise ValueError("a black image")
        return super().forward(x)


class BatchStatistics(Plain):
    """Normalises by the statistics of the batch, which torch refuses for one image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Any:
        return self.norm(super().forward(x))


class HidesState(Plain):
    def state_dict(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("the state is secret")


class Full(Fails):
    error = MemoryError


class Exits(Fails):
    error = SystemExit


class Cancelled(BaseException):
    """An error of its own that is no `Exception`."""


class Cancels(Fails):
    error = Cancelled


class Interrupts(Fails):
    error = KeyboardInterrupt


class FailsOnWhite(Plain):
    """Fails on images with a white pixel, as only some kinds of perturbation make them."""

    def forward(self, x: Tensor) -> Any:
        if x.max() >= 1:
            raise ValueError("a white pixel")
        return super().forward(x)


class Doubles(Plain):
    """Returns twice the classes on more than four images."""

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return logits.repeat(1, 2) if len(x) > 4 else logits


class EqualsAll(Plain):
    """Has no hash, which `parameters` of torch needs."""

    def __eq__(self, other: object) -> Any:
        return True

    __hash__ = None  # type: ignore[assignment]


class Incomparable(Plain):
    """Raises an error where it is compared, and for unknown attributes."""

    def __eq__(self, other: object) -> Any:
        raise RuntimeError("modules are not compared")

    def __hash__(self) -> int:
        return 7

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise RuntimeError(f"no {name}") from None

    @property
    def device(self) -> Any:
        raise RuntimeError("no device")


class HidesParameters(Plain):
    def parameters(self, recurse: bool = True) -> Any:
        raise RuntimeError("the parameters are secret")


class NotInitialised(nn.Module):
    """Does not call the constructor of its base class."""

    def __init__(self) -> None:
        self.factor = 20

    def forward(self, x: Tensor) -> Any:
        return self.factor * x.mean((2, 3))


class Raises(torch.autograd.Function):
    """Raises an error in the backward pass, whose class is the second argument."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, error: type[BaseException]) -> Tensor:
        ctx.error = error
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise ctx.error


class CancelsBackward(Plain):
    error: type[BaseException] = asyncio.CancelledError

    def forward(self, x: Tensor) -> Any:
        return super().forward(Raises.apply(x, self.error))


class CancelsLargeBackward(CancelsBackward):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if len(x) > 2 else Plain.forward(self, x)


class ExitsGenerator(CancelsBackward):
    error = GeneratorExit
