"""Random noise of a fixed size, where Foolbox's own misses the size that was asked for."""

from eagerpy.astensor import astensor
from eagerpy.tensor.tensor import Tensor as Wrapped
from foolbox.attacks import additive_noise as foolbox
from foolbox.external.clipping_aware_rescaling import l2_clipping_aware_rescaling
from torch import Tensor


class _Linf:
    """Scales noise by its largest absolute value; Foolbox takes the largest positive one."""

    def get_epsilons(self, x: Wrapped, p: Wrapped, epsilon: float, min_: float, max_: float) -> Wrapped:
        """Factors (m, 1, 1, 1) of noise ``p`` (m, C, H, W) that make its Linf size ``epsilon``."""
        factors: Wrapped = astensor(epsilon / p.raw.abs().amax(dim=(1, 2, 3), keepdim=True))
        return factors


class _ClippingAware:
    """Looks for the factor in float64; in float32 Foolbox misses small sizes by up to 2 %."""

    def get_epsilons(self, x: Wrapped, p: Wrapped, epsilon: float, min_: float, max_: float) -> Wrapped:
        """Factors (m, 1, 1, 1) of noise ``p`` (m, C, H, W) that make its L2 size ``epsilon`` once clipped.

        Rauber & Bethge 2020, section 3. Where no factor reaches that, the one that comes closest.
        """
        images, noise = x.raw.double(), p.raw.double()
        found: Tensor = l2_clipping_aware_rescaling(images, noise, epsilon, a=min_, b=max_)
        factors: Wrapped = astensor(found.to(p.raw.dtype))
        return factors


class LinfAdditiveUniformNoiseAttack(_Linf, foolbox.LinfAdditiveUniformNoiseAttack):
    """Uniform noise of a fixed Linf size."""


class LinfRepeatedAdditiveUniformNoiseAttack(_Linf, foolbox.LinfRepeatedAdditiveUniformNoiseAttack):
    """Uniform noise of a fixed Linf size, until it fools the model."""


class L2ClippingAwareAdditiveGaussianNoiseAttack(
    _ClippingAware, foolbox.L2ClippingAwareAdditiveGaussianNoiseAttack
):
    """Gaussian noise of a fixed L2 size after clipping."""


class L2ClippingAwareAdditiveUniformNoiseAttack(
    _ClippingAware, foolbox.L2ClippingAwareAdditiveUniformNoiseAttack
):
    """Uniform noise of a fixed L2 size after clipping."""


class L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack(
    _ClippingAware, foolbox.L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack
):
    """Gaussian noise of a fixed L2 size after clipping, until it fools the model."""


class L2ClippingAwareRepeatedAdditiveUniformNoiseAttack(
    _ClippingAware, foolbox.L2ClippingAwareRepeatedAdditiveUniformNoiseAttack
):
    """Uniform noise of a fixed L2 size after clipping, until it fools the model."""
