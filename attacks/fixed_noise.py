"""Gaussian and uniform noise of a fixed width, the same draws as ``blrobust noise``."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from eagerpy.astensor import astensor, astensor_
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor

from blrobust import draws
from blrobust.attacks.candidates import Unmeasured

T = TypeVar("T")


class _FixedNoiseAttack(FixedEpsilonAttack):
    """x + epsilon z, clipped to the bounds; z belongs to the sample, so levels and models are paired."""

    distance = Unmeasured()
    _draw: Callable[..., Tensor]

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def __repr__(self) -> str:
        return f"{type(self).__name__}(seed={self.seed})"

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        epsilon: float,
        draw: int = 0,
        samples: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> T:
        """Images (batch, C, H, W) with noise; the model is asked for its bounds only.

        ``samples`` are the images' places in the data set (default 0..batch - 1).
        """
        raise_if_kwargs(kwargs)
        x, restore_type = astensor_(inputs)
        images: Tensor = x.raw
        places = range(len(images)) if samples is None else samples
        noise = type(self)._draw(images.shape[1:], seed=self.seed, draw=draw, samples=places)
        noisy = images + epsilon * noise.to(images)
        return restore_type(astensor(noisy.clamp(*model.bounds)))


class GaussianNoiseAttack(_FixedNoiseAttack):
    """z ~ N(0, 1): epsilon is the standard deviation."""

    _draw = staticmethod(draws.standard_normal)


class UniformNoiseAttack(_FixedNoiseAttack):
    """z ~ U[-1, 1): epsilon is the half-width."""

    _draw = staticmethod(draws.uniform)
