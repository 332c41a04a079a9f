"""The balls that perturbations of a fixed strength live in."""

import math
from abc import ABC, abstractmethod

import torch
from foolbox.distances import Distance, l2, linf
from torch import Tensor

from blrobust.attacks.building_blocks.gradient_scaling import power_of_two

TINY = 1e-12  # no norm is divided by less


class Ball(ABC):
    """All perturbations (m, C, H, W) whose norm is at most epsilon."""

    distance: Distance

    @abstractmethod
    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """A random point of the ball from numbers uniform in [0, 1) of the images' shape."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of norm 1 along which a loss of this gradient rises fastest; 0 where there is none."""

    @abstractmethod
    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """The nearest perturbation of the ball."""

    @abstractmethod
    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """A perturbation of the ball, projected onto a linear subspace, scaled down into the ball again."""

    @abstractmethod
    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """``found``, nearer to ``origin`` where rounding origin + delta to float32 put it beyond epsilon."""


class LinfBall(Ball):
    """The largest magnitude is at most epsilon."""

    distance = linf

    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """Uniform in the ball."""
        return (2 * uniforms - 1) * epsilon

    def steepest(self, gradient: Tensor) -> Tensor:
        """The sign."""
        return gradient.nan_to_num(0, 0, 0).sign()

    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """Every number clipped."""
        return delta.clamp(-epsilon, epsilon)

    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """Scaled by min(1, epsilon / norm)."""
        norm = delta.flatten(1).abs().amax(dim=1).clamp(min=TINY)
        return delta * (epsilon / norm).clamp(max=1).view(-1, 1, 1, 1)

    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """As it is: one number's rounding is less than what the guard grants."""
        return found


class L2Ball(Ball):
    """The Euclidean norm over all channels and pixels is at most epsilon."""

    distance = l2

    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """A random direction at the distance epsilon: nearly all of a high ball's volume is at its edge."""
        # 0 would be minus infinity; 2**-25 is half the step of the uniform numbers.
        return epsilon * self.steepest(torch.special.ndtri(uniforms.clamp(min=2**-25)))

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient over its norm, of any size: the squares of a small one must not underflow."""
        gradient = gradient.nan_to_num(0, 0, 0)
        scaled = gradient * power_of_two(gradient)
        return scaled * (1 / _norm(scaled))

    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """Scaled by min(1, epsilon / norm)."""
        return delta * (epsilon / _norm(delta)).clamp(max=1)

    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """As it is: such a projection lengthens no perturbation."""
        return delta

    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """Shorter by all that rounding can add: on a flat image every number may be rounded alike."""
        delta = found - origin
        norm = _norm(delta)
        brightest = origin.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1)
        rounding = 2**-24 * math.sqrt(origin[0].numel()) * brightest
        nearer = origin + delta * ((epsilon - rounding).clamp(min=0) / norm)
        return torch.where(norm > epsilon * (1 + 5e-7), nearer, found)  # the guard grants twice as much


def _norm(delta: Tensor) -> Tensor:
    return delta.flatten(1).square().sum(dim=1).sqrt().clamp(min=TINY).view(-1, 1, 1, 1)


BALLS: dict[str, Ball] = {"linf": LinfBall(), "l2": L2Ball()}


def check_norm(norm: str) -> None:
    """Raise ``ValueError`` unless ``norm`` names a ball."""
    if norm not in BALLS:
        raise ValueError(f"norm must be one of {', '.join(BALLS)}, got {norm!r}")
