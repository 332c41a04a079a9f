"""Search for the first candidate image, in a given order, that fools the model.

Each forward pass takes several candidates of every sample. A sample leaves the search as soon as one of its
candidates fools the model.
"""

from typing import Protocol

import torch
from torch import Tensor

from blrobust.attacks.building_blocks.problem import Problem

FIRST = 8  # candidates of a sample in the first pass; doubled in each pass, so that few are queried in excess
VALUES = 2**22  # colour values in one pass, if the images are few; 1,365 candidates of 3 x 32 x 32
ROUND = 2  # candidates per image in one pass, if the images are many; a pass synchronises once


class MakeCandidates(Protocol):
    """A function that returns candidate images of an attack; candidates are numbered in search order."""

    def __call__(self, rows: Tensor, candidate_ids: Tensor) -> Tensor:
        """Return the candidates `candidate_ids` (k,) of each sample in `rows` (n,), as (n, k, C, H, W)."""


def candidates_fool(problem: Problem, candidates: Tensor, rows: Tensor) -> Tensor:
    """Return for each of the `candidates` (n, k, C, H, W) whether it fools the model, bool (n, k).

    `rows` (n,) are the indices in `problem` of the samples that the candidates belong to.
    """
    count = candidates.shape[1]
    logits = problem.logits(candidates.flatten(0, 1))
    return problem.fooled(logits, rows.repeat_interleave(count)).view(-1, count)


def first_fooling(
    problem: Problem, make: MakeCandidates, count: int, *, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return for each image the first candidate that fools the model, and whether there is one.

    The results are (m, C, H, W) and bool (m,). Without such a candidate, the image is returned unchanged.
    `make` returns the candidates, numbered from 0 to `count` - 1. `among`, bool (m,), marks the images for
    which candidates are tried; by default all are. The result for one image does not depend on the other
    images.
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
