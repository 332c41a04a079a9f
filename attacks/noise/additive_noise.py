"""Foolbox's attacks with additive noise, corrected so that the noise has exactly the given size."""

import torch
from eagerpy.astensor import astensor
from eagerpy.tensor.tensor import Tensor as Wrapped
from foolbox.attacks import additive_noise as foolbox
from torch import Tensor
from torch.nn import functional


class _Linf:
    """Mixin that divides noise by its largest absolute value, where Foolbox divides by its largest value."""

    def get_epsilons(self, x: Wrapped, p: Wrapped, epsilon: float, min_: float, max_: float) -> Wrapped:
        """Return factors (m, 1, 1, 1) that scale noise `p` (m, C, H, W) to the Linf norm `epsilon`."""
        factors: Wrapped = astensor(epsilon / p.raw.abs().amax(dim=(1, 2, 3), keepdim=True))
        return factors


class _ClippingAware:
    """Mixin that sums squares in float64; with Foolbox's float32, small norms are wrong by up to 2 %."""

    def get_epsilons(self, x: Wrapped, p: Wrapped, epsilon: float, min_: float, max_: float) -> Wrapped:
        """Return factors (m, 1, 1, 1) that scale noise `p` to the L2 norm `epsilon` after clipping."""
        factors: Wrapped = astensor(clipping_aware_factors(x.raw, p.raw, epsilon, (min_, max_)))
        return factors


def clipping_aware_factors(
    images: Tensor, noise: Tensor, epsilon: float, bounds: tuple[float, float]
) -> Tensor:
    """Return factors (m, 1, 1, 1) for `noise` that move images (m, C, H, W) by the L2 distance `epsilon`.

    The distance is that from the image to clip(image + factor * `noise`), with `bounds` as the clip's limits.
    If no factor gives the distance `epsilon`, the result is the smallest factor at which all colour values
    reach a bound.

    Method of Rauber & Bethge 2020, section 3: sort the colour values of an image by the factor at which they
    reach a bound. At such a factor f, the squared distance is the sum of two parts: the squared changes of
    the values that have already reached a bound, and f^2 times the squared noise of the other values.
    """
    lower, upper = bounds
    flat = noise.flatten(1)
    room = torch.where(noise >= 0, upper - images, images - lower).flatten(1)
    clipped, order = (room / flat.abs().clamp(min=1e-18)).sort(dim=1)
    squares, reach = flat.gather(1, order).square_(), clipped.square()
    moved = (reach * squares).cumsum(dim=1, dtype=torch.float64)
    moved = functional.pad(moved[:, :-1], (1, 0))  # only of the values before
    others = squares.flip(1).cumsum(dim=1, dtype=torch.float64).flip(1)  # a subtraction would cancel
    short = (moved + reach * others < epsilon**2).sum(dim=1, keepdim=True)
    segment = short.clamp(max=flat.shape[1] - 1)
    missing = (epsilon**2 - moved.gather(1, segment)).clamp(min=0)
    factor = (missing / others.gather(1, segment).clamp(min=1e-300)).sqrt()
    factors: Tensor = torch.minimum(factor, clipped.gather(1, segment)).to(noise.dtype)
    return factors.view(-1, 1, 1, 1)


class LinfAdditiveUniformNoiseAttack(_Linf, foolbox.LinfAdditiveUniformNoiseAttack):
    """Uniform noise, scaled to a given Linf norm."""


class LinfRepeatedAdditiveUniformNoiseAttack(_Linf, foolbox.LinfRepeatedAdditiveUniformNoiseAttack):
    """Uniform noise, scaled to a given Linf norm and drawn again until it fools the model."""


class L2ClippingAwareAdditiveGaussianNoiseAttack(
    _ClippingAware, foolbox.L2ClippingAwareAdditiveGaussianNoiseAttack
):
    """Gaussian noise, scaled to a given L2 norm after clipping."""


class L2ClippingAwareAdditiveUniformNoiseAttack(
    _ClippingAware, foolbox.L2ClippingAwareAdditiveUniformNoiseAttack
):
    """Uniform noise, scaled to a given L2 norm after clipping."""


class L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack(
    _ClippingAware, foolbox.L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack
):
    """Gaussian noise, scaled to a given L2 norm after clipping and drawn again until it fools the model."""


class L2ClippingAwareRepeatedAdditiveUniformNoiseAttack(
    _ClippingAware, foolbox.L2ClippingAwareRepeatedAdditiveUniformNoiseAttack
):
    """Uniform noise, scaled to a given L2 norm after clipping and drawn again until it fools the model."""
