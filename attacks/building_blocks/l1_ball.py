"""The L1 ball: perturbations (m, C, H, W) whose absolute changes add up to at most epsilon."""

import math

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.fast_minimum_norm import project_onto_l1_ball
from torch import Tensor

from blrobust.attacks.building_blocks.norm_balls import TINY

HALF_STEP = 2**-25  # of uniform float32 numbers
ROUNDING = 2**-24  # the most by which a float32 number rounds, relative to it


def start(uniforms: Tensor, epsilon: float) -> Tensor:
    """Return a uniform point of the sphere, from numbers uniform in [0, 1) of the images' shape.

    Exponential numbers over their sum are uniform on the simplex. Nearly all of a high ball's volume is
    at its sphere.
    """
    signed = 2 * uniforms.clamp(min=HALF_STEP) - 1
    sizes = -torch.log1p(-signed.abs())
    return epsilon * signed.sign() * sizes / norm(sizes).clamp(min=TINY)


def steepest(gradient: Tensor, quantile: float) -> Tensor:
    """Return the step of norm 1 that changes each image's largest components of the gradient alike.

    Changed are the components whose magnitude is at least the `quantile`, below 1, of the image's. The
    step is 0 where the gradient is 0.
    """
    gradient = gradient.nan_to_num(0, 0, 0)
    sizes = gradient.abs().flatten(1)
    count = sizes.shape[1] - math.ceil(quantile * (sizes.shape[1] - 1))
    least = sizes.topk(count, dim=1).values[:, -1].view(-1, 1, 1, 1)
    signs = torch.where(gradient.abs() >= least, gradient.sign(), 0)
    return signs / norm(signs).clamp(min=1)


def project(delta: Tensor, epsilon: float) -> Tensor:
    """Return the nearest perturbation in the ball, by soft thresholding."""
    radius = torch.full_like(delta[:, 0, 0, 0], epsilon)
    projected: Tensor = project_onto_l1_ball(astensor(delta), astensor(radius)).raw
    return projected


def settle(found: Tensor, origin: Tensor, epsilon: float) -> Tensor:
    """Return `found`, moved towards `origin` where rounding put it beyond epsilon.

    It is shortened by all that rounding can add: on a flat image every number may round the same way.
    """
    delta = found - origin
    length = norm(delta)
    rounding = ROUNDING * norm(torch.where(delta == 0, 0, torch.maximum(found.abs(), origin.abs())))
    nearer = origin + delta * ((epsilon - rounding).clamp(min=0) / length.clamp(min=TINY))
    return torch.where(length > epsilon * (1 + 5e-7), nearer, found)  # the guard tolerates twice as much


def norm(delta: Tensor) -> Tensor:
    """Return the norms (m, 1, 1, 1)."""
    return delta.flatten(1).abs().sum(dim=1).view(-1, 1, 1, 1)
