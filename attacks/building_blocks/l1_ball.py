"""The L1 ball: perturbations (m, C, H, W) whose absolute values sum to at most epsilon."""

import math

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.fast_minimum_norm import project_onto_l1_ball
from torch import Tensor

from blrobust.attacks.building_blocks.norm_balls import TINY

HALF_STEP = 2**-25  # half the spacing of uniform float32 random numbers
ROUNDING = 2**-24  # the largest relative rounding error of a float32 number


def start(uniforms: Tensor, epsilon: float) -> Tensor:
    """Return a random perturbation of L1 norm `epsilon`, uniform on the sphere of this radius.

    `uniforms` (m, C, H, W) are uniform random numbers in [0, 1). They are converted to exponentially
    distributed numbers with random signs, because such magnitudes, divided by their sum, are uniform on the
    simplex. In many dimensions nearly all points of a ball are close to its sphere, so a start on the sphere
    is enough.
    """
    signed = 2 * uniforms.clamp(min=HALF_STEP) - 1
    sizes = -torch.log1p(-signed.abs())
    return epsilon * signed.sign() * sizes / norm(sizes).clamp(min=TINY)


def steepest(gradient: Tensor, quantile: float) -> Tensor:
    """Return a step of L1 norm 1 that changes the components with the largest gradients by equal amounts.

    In each image, these are the components where the magnitude of the gradient is at least the quantile
    `quantile` (from 0, below 1) of all its magnitudes. The step is 0 if the gradient is 0.
    """
    gradient = gradient.nan_to_num(0, 0, 0)
    sizes = gradient.abs().flatten(1)
    count = sizes.shape[1] - math.ceil(quantile * (sizes.shape[1] - 1))
    least = sizes.topk(count, dim=1).values[:, -1].view(-1, 1, 1, 1)
    signs = torch.where(gradient.abs() >= least, gradient.sign(), 0)
    return signs / norm(signs).clamp(min=1)


def project(delta: Tensor, epsilon: float) -> Tensor:
    """Return the nearest perturbation of L1 norm at most `epsilon`, by soft thresholding."""
    radius = torch.full_like(delta[:, 0, 0, 0], epsilon)
    projected: Tensor = project_onto_l1_ball(astensor(delta), astensor(radius)).raw
    return projected


def settle(found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
    """Return images `found`, moved towards `origin` if rounding has put them farther than `epsilon` away.

    The new distance is `epsilon` minus the largest possible sum of rounding errors, because on an image of a
    single colour all colour values may round in the same direction.
    """
    delta = found - origin
    length = norm(delta)
    rounding = ROUNDING * norm(torch.where(delta == 0, 0, torch.maximum(found.abs(), origin.abs())))
    nearer = origin + delta * ((epsilon - rounding).clamp(min=0) / length.clamp(min=TINY))
    return torch.where(length > epsilon * (1 + 5e-7), nearer, found)  # `guard.checks` accepts 1e-6


def norm(delta: Tensor) -> Tensor:
    """Return the L1 norms (m, 1, 1, 1) of perturbations (m, C, H, W)."""
    return delta.flatten(1).abs().sum(dim=1).view(-1, 1, 1, 1)
