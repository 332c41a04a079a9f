"""Gaussian and uniform noise of a fixed width, the same draws as ``blrobust noise``."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
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
        self._caches: dict[tuple[torch.Size, torch.device], draws.Cache] = {}

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
        samples: range | None = None,
        **kwargs: Any,
    ) -> T:
        """Images (batch, C, H, W) with noise; the model is asked for its bounds only.

        ``samples`` are the images' places in the data set (default 0..batch - 1).
        """
        raise_if_kwargs(kwargs)
        x, restore_type = astensor_(inputs)
        images: Tensor = x.raw
        noise = self._cache(images).block(draw, range(len(images)) if samples is None else samples)
        return restore_type(astensor((images + epsilon * noise).clamp(*model.bounds)))

    def _cache(self, like: Tensor) -> draws.Cache:
        """The noise of images such as ``like``, on its device."""
        shape, device = like.shape[1:], like.device

        def make(draw: int, samples: range) -> Tensor:
            return type(self)._draw(shape, seed=self.seed, draw=draw, samples=samples).to(device)

        return self._caches.setdefault((shape, device), draws.Cache(make))


class GaussianNoiseAttack(_FixedNoiseAttack):
    """z ~ N(0, 1): epsilon is the standard deviation."""

    _draw = staticmethod(draws.standard_normal)


class UniformNoiseAttack(_FixedNoiseAttack):
    """z ~ U[-1, 1): epsilon is the half-width."""

    _draw = staticmethod(draws.uniform)
