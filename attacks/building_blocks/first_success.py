"""Search for the first of many candidates, in a given order, that fools the model.

All samples without a success go through the model together, several candidates of each in a pass.
"""

from typing import Protocol

import torch
from torch import Tensor

from blrobust.attacks.building_blocks.problem import Problem

FIRST = 8  # candidates of a sample in the first pass; each pass doubles them, so that few queries are wasted
VALUES = 2**22  # numbers in a pass of few images: 1,365 of CIFAR-10
ROUND = 2  # candidates of each image in a pass of many: each pass synchronises with the device once


class MakeCandidates(Protocol):
    """A function that makes the candidates of an attack, in the order in which they are tried."""

    def __call__(self, rows: Tensor, candidate_ids: Tensor) -> Tensor:
        """Return the candidates `candidate_ids` (k,) of the samples `rows` (n,), (n, k, C, H, W)."""


def candidates_fool(problem: Problem, candidates: Tensor, rows: Tensor) -> Tensor:
    """Return bool (n, k): if each candidate (n, k, C, H, W) of the samples `rows` (n,) fools the model."""
    count = candidates.shape[1]
    logits = problem.logits(candidates.flatten(0, 1))
    return problem.fooled(logits, rows.repeat_interleave(count)).view(-1, count)


def first_fooling(
    problem: Problem, make: MakeCandidates, count: int, *, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return for each image the first of its `count` candidates that fools the model, (m, C, H, W).

    Also return bool (m,): whether there is one. An image without one, or outside `among` (bool (m,)), is
    returned unchanged. The outcome of a sample does not depend on the other samples.
    """
    images = problem.images
    found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    result = images.clone()
    rows = torch.arange(len(images), device=images.device)
    rows = rows if among is None else rows[among]
    first, most = 0, FIRST
    while first < count and len(rows) > 0:
        room = max(ROUND * len(images), VALUES // images[0].numel()) // len(rows)
        last = min(count, first + most, first + room)
        candidates = make(rows, torch.arange(first, last, device=images.device))
        hits = candidates_fool(problem, candidates, rows)
        done = hits.any(dim=1)
        order = done.int().argsort(stable=True)  # finished samples last
        left = len(rows) - int(done.sum())  # the only synchronisation of this pass
        ended, rows = order[left:], rows[order]
        first_hit = hits[ended].int().argmax(dim=1)
        found[rows[left:]] = True
        result[rows[left:]] = candidates[ended, first_hit]
        rows = rows[:left]
        first, most = last, 2 * most
    return result, found
