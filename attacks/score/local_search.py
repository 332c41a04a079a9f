"""Local search: each round changes the few pixels that matter most, near those of the round before."""

import torch
from eagerpy.astensor import astensor_
from foolbox.attacks.base import T
from foolbox.criteria import Misclassification
from torch import Tensor
from torch.nn import functional

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.distances import PixelDistance
from blrobust.attacks.building_blocks.level_checks import check_pixel_count
from blrobust.attacks.building_blocks.losses import log_odds
from blrobust.attacks.building_blocks.parameters import check, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.score.queries import BATCH
from blrobust.perturbations import random_numbers

FIRST_SHARE = 0.1  # the candidates of the first round, as a share of all pixels


class RoundDistance(PixelDistance):
    """The number of pixels that differ, divided by the number of rounds of the attack."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def __call__(self, references: T, perturbed: T) -> T:
        """Return the distances (m,) between the images `references` and `perturbed`, both (m, C, H, W)."""
        count, restore_type = astensor_(super().__call__(references, perturbed))
        return restore_type(count / self.rounds)


class LocalSearchAttack(PerSampleSeed, EpsilonAttack):
    """Greedy local search (Narodytska & Kasiviswanathan 2016, Algorithm LocSearchAdv), as in Foolbox 1.

    Let v be the value of a pixel in a channel, shifted and scaled so that the bounds are [-1/2, 1/2]. A round

    1. sets one candidate pixel at a time to `p` * sign(v), outside the bounds, and queries the probability of
       the label;
    2. sets the t = `epsilon` candidates with the lowest probability to `r` * v in all channels, plus or minus
       1 where this leaves the bounds, and always keeps the change;
    3. stops if the model no longer predicts the label. The candidates of the next round are the pixels in the
       squares of half side `d` around these t pixels.

    The candidates of a round are at most `candidates` pixels, chosen at random, and in the first round also
    at most a tenth of all pixels. At most t * `rounds` pixels change, with at most `rounds` * (`candidates` +
    1) queries. The paper's values are those of Foolbox 1: r = 1.5, p = 10, d = 5, 150 rounds, 128 candidates.
    `r` must be above 1, because 1 changes nothing, and at most 2, so that `r` * v plus or minus 1 is within
    the bounds. The result is the image after the last round, or the first image that is no longer classified
    as the label.

    Raises `ValueError` for a parameter that is not legal. `run` raises `UserError` unless `epsilon` is a
    whole number from 0 to H * W.
    """

    criteria = (Misclassification,)
    stream = random_numbers.LOCAL_SEARCH

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
        check("r", r, "numbers above 1, up to 2", accepted=1 < r <= 2)
        check_counts(rounds=rounds, candidates=candidates)
        check_counts(d=d, least=0)
        self.rounds = rounds
        self.candidates = candidates
        self.r = r
        self.p = p
        self.d = d
        self.seed = seed

    @property
    def distance(self) -> RoundDistance:
        """The number of pixels that differ, divided by `rounds`: at most `epsilon`."""
        return RoundDistance(self.rounds)

    @torch.no_grad()
    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        images = problem.images
        count = check_pixel_count(epsilon, images.shape[1:])
        batch, _, height, width = images.shape
        own = self._own_numbers(problem, height * width)
        lower, upper = problem.bounds
        middle, span = (lower + upper) / 2, upper - lower
        best = images.clone()
        near = torch.ones_like(images[:, 0], dtype=torch.bool).flatten(1)  # (batch, H * W)
        least = max(int(FIRST_SHARE * height * width), 1)
        rows = torch.arange(batch, device=images.device)
        for turn in range(self.rounds):
            shared = self._shared_numbers(problem, height * width, step=turn)
            keys = random_numbers.mixed(own[rows], shared).masked_fill_(~near[rows], torch.inf)
            limit = min(self.candidates, least if turn == 0 else height * width)
            pixels = keys.argsort(dim=1, stable=True)[:, :limit]  # (n, limit), candidates first
            valid = near[rows].gather(1, pixels)
            row, column = valid.nonzero(as_tuple=True)
            # In parts, because there is one probe, a whole image, for every candidate pixel of the batch.
            loss = torch.cat(
                [
                    log_odds(
                        problem.logits(self._probes(best[rows[r]], pixels[r, c], middle, span)),
                        problem.classes[rows[r]],
                    )
                    for r, c in zip(torch.split(row, BATCH), torch.split(column, BATCH), strict=True)
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
            rows = rows[~problem.fooled(problem.logits(best[rows]), rows)]
            if len(rows) == 0:
                break
        return best

    def _probes(self, images: Tensor, pixels: Tensor, middle: float, span: float) -> Tensor:
        """Return copies of the images (n, C, H, W), each with one of the `pixels` (n,) set to `p` * sign(v).

        v is the value of the pixel in a channel, shifted by `middle` and divided by `span`, so that the
        bounds are [-1/2, 1/2].
        """
        flat = images.flatten(2)
        index = pixels.view(-1, 1, 1).expand(-1, flat.shape[1], 1)
        outside = middle + self.p * span * (flat.gather(2, index) - middle).sign()
        return flat.scatter(2, index, outside).view_as(images)

    def _wrapped(self, centred: Tensor) -> Tensor:
        """Return `r` * `centred`, plus or minus 1 where the product leaves [-1/2, 1/2]."""
        moved = self.r * centred
        return moved - (moved > 0.5).float() + (moved < -0.5).float()
