"""Norm balls: the perturbations whose norm is at most a given radius."""

import math
from abc import ABC, abstractmethod

import torch
from foolbox.distances import Distance, l2, linf
from torch import Tensor

from blrobust.attacks.building_blocks.gradient_scaling import power_of_two
from blrobust.attacks.building_blocks.parameters import check

TINY = 1e-12  # replaces smaller norms as a divisor


class Ball(ABC):
    """The perturbations (m, C, H, W) whose norm is at most a radius epsilon."""

    distance: Distance

    @abstractmethod
    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """Return a random perturbation in the ball; `uniforms` (m, C, H, W) are random numbers in [0, 1)."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the step of norm 1 along which a loss with this `gradient` rises fastest; 0 if it is 0."""

    @abstractmethod
    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """Return the nearest perturbation whose norm is at most `epsilon`."""

    @abstractmethod
    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """Return `delta`, scaled down to norm `epsilon` if its norm is larger.

        `delta` is a perturbation from the ball after an orthogonal projection onto a linear subspace. Such a
        projection may increase the Linf norm, but not the L2 norm.
        """

    @abstractmethod
    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """Return images `found`, moved towards `origin` if their distance exceeds `epsilon` by rounding."""


class LinfBall(Ball):
    """The perturbations whose largest magnitude is at most epsilon."""

    distance = linf

    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """Return a perturbation that is uniformly distributed in the ball."""
        return (2 * uniforms - 1) * epsilon

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the sign of each component of the gradient; 0 if the component is not finite."""
        return gradient.nan_to_num(0, 0, 0).sign()

    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """Return `delta` with every component clipped to [-`epsilon`, `epsilon`]."""
        return delta.clamp(-epsilon, epsilon)

    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """Return each sample's `delta` multiplied by min(1, epsilon / its norm)."""
        norm = delta.flatten(1).abs().amax(dim=1).clamp(min=TINY)
        return delta * (epsilon / norm).clamp(max=1).view(-1, 1, 1, 1)

    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """Return `found` unchanged: the check of distances in `guard.checks` allows one rounding error."""
        return found


class L2Ball(Ball):
    """The perturbations whose Euclidean norm over all channels and pixels is at most epsilon."""

    distance = l2

    def start(self, uniforms: Tensor, epsilon: float) -> Tensor:
        """Return a perturbation of norm `epsilon` in a random direction.

        In many dimensions nearly all points of a ball are close to its sphere, so a start on the sphere is
        enough.
        """
        # ndtri(0) is minus infinity; 2**-25 is half the spacing of the uniform numbers.
        return epsilon * self.steepest(torch.special.ndtri(uniforms.clamp(min=2**-25)))

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the gradient divided by its norm, scaled first because its squares could underflow."""
        gradient = gradient.nan_to_num(0, 0, 0)
        scaled = gradient * power_of_two(gradient)
        return scaled * (1 / _norm(scaled))

    def project(self, delta: Tensor, epsilon: float) -> Tensor:
        """Return each sample's `delta` multiplied by min(1, epsilon / its norm)."""
        return delta * (epsilon / _norm(delta)).clamp(max=1)

    def shrink(self, delta: Tensor, epsilon: float) -> Tensor:
        """Return `delta` unchanged: the projection that it comes from does not increase the L2 norm."""
        return delta

    def settle(self, found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
        """Return images `found`, moved towards `origin` if rounding has put them farther than `epsilon` away.

        The new distance is smaller than `epsilon` by the largest possible rounding error, which occurs if all
        colour values round in the same direction.
        """
        delta = found - origin
        norm = _norm(delta)
        brightest = origin.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1)
        rounding = 2**-24 * math.sqrt(origin[0].numel()) * brightest
        nearer = origin + delta * ((epsilon - rounding).clamp(min=0) / norm)
        return torch.where(norm > epsilon * (1 + 5e-7), nearer, found)  # `guard.checks` accepts 1e-6


def _norm(delta: Tensor) -> Tensor:
    return delta.flatten(1).square().sum(dim=1).sqrt().clamp(min=TINY).view(-1, 1, 1, 1)


BALLS: dict[str, Ball] = {"linf": LinfBall(), "l2": L2Ball()}


def check_norm(norm: str) -> None:
    """Raise `ValueError` unless `norm` is a key of `BALLS`."""
    check("norm", norm, ", ".join(BALLS), accepted=norm in BALLS)
