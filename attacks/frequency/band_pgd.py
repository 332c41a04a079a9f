"""PGD within a band of spatial frequencies: the adaptive attack on a band-limited network."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import torch
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.distances import Distance
from foolbox.models.base import Model
from torch import Tensor
from torch.nn.functional import cross_entropy

from blrobust.attacks.building_blocks.norm_balls import BALLS, check_norm
from blrobust.attacks.building_blocks.problem import Problem, call, check_counts
from blrobust.attacks.frequency import spectral_band
from blrobust.perturbations import random_numbers

T = TypeVar("T")


class BandPGD(FixedEpsilonAttack):
    """Projected gradient ascent on the cross-entropy, of perturbations in a band only.

    Each step follows the gradient's part within the band, then projects onto the band, the ball of
    ``epsilon`` and the bounds (Madry et al. 2018 for the rest). Clipping a number leaves the band, so
    after the linf ball the perturbation goes back to the band and is scaled into the ball: before the
    bounds it has nothing outside the band. With ``low`` 0 and ``high`` 1 it is Foolbox's PGD, bit by
    bit from the same start. ``low`` and ``high`` are fractions of the one-sided spectrum, see
    ``SpectralBand``; a step has the size ``rel_stepsize`` times epsilon.

    Raises ``ValueError`` for a parameter that is not legal.
    """

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
        if not rel_stepsize > 0:
            raise ValueError(f"rel_stepsize must be above 0, got {rel_stepsize!r}")
        spectral_band.SpectralBand(low, high)
        self.norm = norm
        self.low = low
        self.high = high
        self.rel_stepsize = rel_stepsize
        self.steps = steps
        self.random_start = random_start
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.BAND_PGD)

    def __repr__(self) -> str:
        return call(self)

    @property
    def distance(self) -> Distance:
        """The norm's."""
        return BALLS[self.norm].distance

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
        """Images (m, C, H, W) after the last step, adversarial or not.

        `samples` are the ids of the images in the data set (default 0..m - 1); they and `draw`
        choose the starts. Raises ``ValueError`` for images beyond the bounds or without a frequency
        in the band.
        """
        raise_if_kwargs(kwargs)
        problem = Problem.of(self, model, inputs, criterion, targeted=True)
        origin = problem.images
        ball = BALLS[self.norm]
        within = self._projection(origin)

        def project(x: Tensor) -> Tensor:
            delta = within(ball.project(within(x - origin), epsilon))
            return problem.clip(origin + ball.shrink(delta, epsilon))

        x = origin
        if self.random_start:
            sample_ids = range(len(origin)) if samples is None else samples
            numbers = self._numbers(
                origin[0].numel(), seed=self.seed, draw=draw, samples=sample_ids, device=origin.device
            )
            start = within(ball.start(numbers.view_as(origin), epsilon))
            x = problem.clip(origin + ball.shrink(start, epsilon))
        stepsize = self.rel_stepsize * epsilon * (-1 if problem.targeted else 1)
        for _ in range(self.steps):
            x = project(x + stepsize * ball.steepest(within(_gradient(problem, x))))
        return ball.settle(x, origin, epsilon)  # type: ignore[return-value]

    def _projection(self, images: Tensor) -> Any:
        """The projection onto the band: nothing at all where it is full."""
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
