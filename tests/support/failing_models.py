"""Modules that fail on some images: on more than a few, or on those that a perturbation makes."""

from typing import Any

from torch import Tensor

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
