"""Local search: each round moves the few pixels that matter most, near those of the round before."""

from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor, astensor_
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.models.base import Model
from torch import Tensor
from torch.nn import functional

from blrobust.attacks.building_blocks.problem import call
from blrobust.attacks.decision.pixel import PixelDistance
from blrobust.attacks.score.goal import ASKED, Goal, check_inputs
from blrobust.errors import UserError
from blrobust.perturbations import random_numbers

T = TypeVar("T")

START = 0.1  # share of the pixels that the first round looks at


def check_pixels(strength: float, shape: tuple[int, ...]) -> int:
    """``strength`` as a number of pixels per round in images of ``shape`` (C, H, W).

    Raises ``UserError`` where it is no whole number or more than the H * W pixels there are.
    """
    pixels = shape[-2] * shape[-1]
    if strength != int(strength) or not 0 <= strength <= pixels:
        raise UserError(
            f"strength {strength:g}: local search takes a whole number of pixels per round from 0 to "
            f"{pixels}, all that an image of {shape[-2]} x {shape[-1]} has"
        )
    return int(strength)


class RoundDistance(PixelDistance):
    """L0 in pixels per round: the pixels that differ, over the number of rounds."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def __call__(self, references: T, perturbed: T) -> T:
        """Distances (batch,) between images (batch, C, H, W)."""
        count, restore_type = astensor_(super().__call__(references, perturbed))
        return restore_type(count / self.rounds)


class LocalSearchAttack(FixedEpsilonAttack):
    """Greedy local search (Narodytska & Kasiviswanathan 2016, Algorithm LocSearchAdv), as in Foolbox 1.

    With the bounds moved to [-1/2, 1/2], a round

    1. sets each candidate pixel alone to ``p`` sign(v), outside the bounds, and asks the model how
       probable the label still is;
    2. moves the t = ``epsilon`` candidates where it is least probable to ``r`` v, wrapped around into
       the bounds, in all channels, and keeps this whatever it did;
    3. stops where the label is lost; the candidates of the next round are the squares of half side
       ``d`` around these t pixels.

    A round has at most ``candidates`` of them, chosen at random; the first round's are a tenth of
    all pixels. L0 is at most t ``rounds``, and queries at most ``rounds`` (``candidates`` + 1). The
    paper's values are those of Foolbox 1: r = 1.5, p = 10, d = 5, 150 rounds, 128 candidates.
    """

    def __init__(
        self,
        *,
        rounds: int = 5,
        candidates: int = 32,
        r: float = 1.5,
        p: float = 10.0,
        d: int = 5,
        seed: int = 0,
    ) -> None:
        if not 0 <= r <= 2:
            raise ValueError(f"r {r:g}; legal: 0 to 2, so that one wrap leads back into the bounds")
        for name, value, least in (("rounds", rounds, 1), ("candidates", candidates, 1), ("d", d, 0)):
            if value < least:
                raise ValueError(f"{name} {value}; legal: {least} or more")
        self.rounds = rounds
        self.candidates = candidates
        self.r = r
        self.p = p
        self.d = d
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.LOCAL_SEARCH)

    @property
    def distance(self) -> RoundDistance:
        """It stays within t: L0 over ``rounds``."""
        return RoundDistance(self.rounds)

    def __repr__(self) -> str:
        return call(self)

    @torch.no_grad()
    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        epsilon: float,
        draw: int = 0,
        samples: range | tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> T:
        """The images (batch, C, H, W) after the last round, or the one that lost the label.

        `samples` are the ids of the images in the data set (default 0..batch - 1); they and `draw`
        choose the candidates. Raises ``UserError`` where ``epsilon`` is no number of pixels, and
        ``ValueError`` for inputs out of bounds and criteria other than misclassification.
        """
        raise_if_kwargs(kwargs)
        images, restore_type = check_inputs(inputs, model)
        goal = Goal.of(criterion, images)
        if goal.targeted:
            raise ValueError("local search leaves a class and takes no target")
        count = check_pixels(epsilon, images.shape[1:])
        batch, _, height, width = images.shape
        own = self._numbers(
            height * width,
            seed=self.seed,
            draw=draw,
            samples=range(batch) if samples is None else samples,
            device=images.device,
        )
        lower, upper = model.bounds
        middle, span = (lower + upper) / 2, upper - lower
        best = images.clone()
        near = torch.ones_like(images[:, 0], dtype=torch.bool).flatten(1)  # (batch, H * W)
        least = max(int(START * height * width), 1)
        rows = torch.arange(batch, device=images.device)
        for turn in range(self.rounds):
            shared = random_numbers.common(
                height * width,
                stream=random_numbers.LOCAL_SEARCH,
                seed=self.seed,
                draw=draw,
                step=turn,
                device=images.device,
            )
            keys = random_numbers.mixed(own[rows], shared).masked_fill_(~near[rows], torch.inf)
            limit = min(self.candidates, least if turn == 0 else height * width)
            pixels = keys.argsort(dim=1, stable=True)[:, :limit]  # (n, limit), candidates first
            valid = near[rows].gather(1, pixels)
            row, column = valid.nonzero(as_tuple=True)
            # Not all probes at once: they are as many images as the batch has candidates.
            loss = torch.cat(
                [
                    goal[rows[r]].log_odds(model(self._probes(best[rows[r]], pixels[r, c], middle, span)))
                    for r, c in zip(torch.split(row, ASKED), torch.split(column, ASKED), strict=True)
                ]
            )
            scores = loss.new_full(pixels.shape, torch.inf)
            scores[row, column] = loss
            order = scores.argsort(dim=1, stable=True)[:, :count]
            chosen = torch.zeros_like(near[rows]).scatter_(1, pixels.gather(1, order), valid.gather(1, order))
            grid = chosen.view(-1, 1, height, width)
            moved = (middle + span * self._wrapped((best[rows] - middle) / span)).clamp(lower, upper)
            best[rows] = torch.where(grid, moved, best[rows])
            square = functional.max_pool2d(grid.float(), 2 * self.d + 1, stride=1, padding=self.d)
            near[rows] = square.flatten(1) > 0
            rows = rows[~goal[rows].reached(model(best[rows]))]
            if len(rows) == 0:
                break
        return restore_type(astensor(best))  # type: ignore[no-any-return]

    def _probes(self, images: Tensor, pixels: Tensor, middle: float, span: float) -> Tensor:
        """Images (n, C, H, W) with one pixel (n,) each set to ``p`` sign(v)."""
        flat = images.flatten(2)
        index = pixels.view(-1, 1, 1).expand(-1, flat.shape[1], 1)
        outside = middle + self.p * span * (flat.gather(2, index) - middle).sign()
        return flat.scatter(2, index, outside).view_as(images)

    def _wrapped(self, centred: Tensor) -> Tensor:
        """``r`` v, plus or minus 1 where it leaves [-1/2, 1/2]."""
        moved = self.r * centred
        return moved - (moved > 0.5).float() + (moved < -0.5).float()
