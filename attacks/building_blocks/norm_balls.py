"""Norm balls: the perturbations of at most a given norm."""

import math
from abc import ABC, abstractmethod

import torch
from foolbox.distances import Distance, l2, linf
from torch import Tensor

from blrobust.attacks.building_blocks.gradient_scaling import power_of_two
from blrobust.attacks.building_blocks.parameters import check

TINY = 1e-12  # the least divisor in place of a norm


class Ball(ABC):
    """All perturbations (m, C, H, W) whose norm is at most epsilon."""

    distance: Distance

    @abstractmethod
    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """Return a random point of the ball, from numbers uniform in [0, 1) of the images' shape."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the step of norm 1 along which the loss rises fastest; 0 where the gradient is 0."""

    @abstractmethod
    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """Return the nearest perturbation in the ball."""

    @abstractmethod
    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """Scale a perturbation of the ball, projected onto a linear subspace, back into the ball."""

    @abstractmethod
    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """Return `found`, moved towards `origin` where the rounding of origin + delta exceeds epsilon."""


class LinfBall(Ball):
    """The largest magnitude is at most epsilon."""

    distance = linf

    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """Return a uniform point of the ball."""
        return (2 * uniforms - 1) * epsilon

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the sign of the gradient."""
        return gradient.nan_to_num(0, 0, 0).sign()

    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """Clip every number."""
        return delta.clamp(-epsilon, epsilon)

    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """Scale by min(1, epsilon / norm)."""
        norm = delta.flatten(1).abs().amax(dim=1).clamp(min=TINY)
        return delta * (epsilon / norm).clamp(max=1).view(-1, 1, 1, 1)

    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """Return `found` unchanged: the rounding of one number is within the tolerance of the guard."""
        return found


class L2Ball(Ball):
    """The Euclidean norm over all channels and pixels is at most epsilon."""

    distance = l2

    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """Return a random direction of length epsilon: nearly all volume of a large ball is at its edge."""
        # ndtri(0) is minus infinity; 2**-25 is half the step of the uniform numbers.
        return epsilon * self.steepest(torch.special.ndtri(uniforms.clamp(min=2**-25)))

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the gradient divided by its norm; it is scaled first, as its squares could underflow."""
        gradient = gradient.nan_to_num(0, 0, 0)
        scaled = gradient * power_of_two(gradient)
        return scaled * (1 / _norm(scaled))

    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """Scale by min(1, epsilon / norm)."""
        return delta * (epsilon / _norm(delta)).clamp(max=1)

    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """Return `delta` unchanged: a projection onto a subspace does not increase the norm."""
        return delta

    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """Shorten by the most that rounding can add: all numbers may round in the same direction."""
        delta = found - origin
        norm = _norm(delta)
        brightest = origin.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1)
        rounding = 2**-24 * math.sqrt(origin[0].numel()) * brightest
        nearer = origin + delta * ((epsilon - rounding).clamp(min=0) / norm)
        return torch.where(norm > epsilon * (1 + 5e-7), nearer, found)  # the guard tolerates twice as much


def _norm(delta: Tensor) -> Tensor:
    return delta.flatten(1).square().sum(dim=1).sqrt().clamp(min=TINY).view(-1, 1, 1, 1)


BALLS: dict[str, Ball] = {"linf": LinfBall(), "l2": L2Ball()}


def check_norm(norm: str) -> None:
    """Raise `ValueError` unless `norm` names a ball."""
    check("norm", norm, ", ".join(BALLS), accepted=norm in BALLS)
