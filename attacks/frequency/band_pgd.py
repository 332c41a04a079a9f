"""PGD within a band of spatial frequencies, used as the adaptive attack on a band-limited network."""

from collections.abc import Callable
from typing import Literal

import torch
from foolbox.distances import Distance
from torch import Tensor
from torch.nn.functional import cross_entropy

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.norm_balls import BALLS, check_norm
from blrobust.attacks.building_blocks.parameters import check_above_0, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.frequency import spectral_band
from blrobust.perturbations import random_numbers


class BandPGD(PerSampleSeed, EpsilonAttack):
    """Projected gradient ascent on the cross-entropy, with perturbations in a band of frequencies only.

    Each step follows the part of the gradient that lies in the band. Then the perturbation is projected onto
    the band and onto the ball of radius `epsilon`, and the image is clipped to the bounds. All else is as in
    Madry et al. 2018.

    Clipping adds frequencies outside the band. So after the projection onto the linf ball, which clips, the
    perturbation is projected onto the band again and scaled down into the ball. Then only the clipping to the
    bounds can add other frequencies. With `low` 0 and `high` 1 the attack equals Foolbox's PGD from the same
    start, bit by bit.

    `low` and `high` are fractions of the one-sided spectrum (see `SpectralBand`). A step has the norm
    `rel_stepsize` * epsilon. The result is the image after the last step, adversarial or not. Raises
    `ValueError` for a parameter that is not legal. `run` raises `ValueError` for images without a frequency
    in the band.
    """

    stream = random_numbers.BAND_PGD

    def __init__(
        self,
        *,
        norm: Literal["linf", "l2"] = "linf",
        low: float = 0.0,
        high: float = 1.0,
        rel_stepsize: float = 0.025,
        steps: int = 50,
        random_start: bool = True,
        seed: int = 0,
    ) -> None:
        check_norm(norm)
        check_counts(steps=steps)
        check_above_0(rel_stepsize=rel_stepsize)
        spectral_band.SpectralBand(low, high)  # checks them
        self.norm = norm
        self.low = low
        self.high = high
        self.rel_stepsize = rel_stepsize
        self.steps = steps
        self.random_start = random_start
        self.seed = seed

    @property
    def distance(self) -> Distance:
        """The distance measure of the attack's norm."""
        return BALLS[self.norm].distance

    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        origin = problem.images
        ball = BALLS[self.norm]
        within = self._projection(origin)

        def project(x: Tensor) -> Tensor:
            delta = within(ball.project(within(x - origin), epsilon))
            return problem.clip(origin + ball.shrink(delta, epsilon))

        x = origin
        if self.random_start:
            numbers = self._own_numbers(problem, origin[0].numel())
            start = within(ball.start(numbers.view_as(origin), epsilon))
            x = problem.clip(origin + ball.shrink(start, epsilon))
        stepsize = self.rel_stepsize * epsilon * problem.sign
        for _ in range(self.steps):
            x = project(x + stepsize * ball.steepest(within(_gradient(problem, x))))
        return ball.settle(x, origin, epsilon)

    def _projection(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function that projects perturbations onto the band: the identity if the band is full."""
        spectrum = spectral_band.SpectralBand(self.low, self.high)
        if spectrum.is_full:
            return lambda delta: delta
        mask = spectrum.mask(*images.shape[-2:], device=images.device)
        return lambda delta: spectral_band.project(delta, mask)


def _gradient(problem: Problem, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        loss = cross_entropy(problem.model(x), problem.classes, reduction="none").sum()
        (gradient,) = torch.autograd.grad(loss, x)
    return gradient
