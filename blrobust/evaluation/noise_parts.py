"""The parts of a sweep over noise, from the kinds and levels that a user gives."""

from collections.abc import Iterable, Mapping

import torch

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.evaluation.arguments import listed
from blrobust.evaluation.sweep import Part
from blrobust.perturbations import levels
from blrobust.perturbations.noise import REVISIONS, Noise
from blrobust.perturbations.noise_kinds import check_kind, default_levels, default_space

Levels = str | float | Iterable[str | float]
LEGAL = "a dictionary from kinds to levels, or names of kinds (gaussian, uniform)"
NoiseKinds = str | Iterable[str] | Mapping[str, Levels | None]


def noise_grids(noise: NoiseKinds, space: str | None) -> dict[str, tuple[float, ...]]:
    """Return the levels of each kind of noise in `noise`; a kind without levels gets its default levels.

    `space` is the name of an input space or None. Raises `UserError` for an unknown kind, for illegal levels,
    and if `noise` has no kind.
    """
    names = noise.split(",") if isinstance(noise, str) else listed("noise", noise, str, legal=LEGAL)
    asked: Mapping[str, Levels | None] = noise if isinstance(noise, Mapping) else dict.fromkeys(names)
    if not asked:
        raise UserError("noise: got no kind; legal: gaussian, uniform")
    found = {}
    for kind, given in asked.items():
        check_kind(kind)
        text = default_levels(kind, space) if given is None else given
        found[kind] = levels.parse_given(text, name="noise")
    return found


def noise_parts(
    grids: Mapping[str, tuple[float, ...]],
    *,
    space: str | None,
    dataset: Dataset,
    seed: int,
    device: torch.device,
) -> list[Part]:
    """Return a part for each kind of noise in `grids`, in `space` or in the default space of the kinds."""
    chosen = space or default_space(list(grids))
    return [
        Part(
            Noise(kind, space=chosen, dataset=dataset, seed=seed, device=device),
            grid,
            revision=REVISIONS[kind],
        )
        for kind, grid in grids.items()
    ]
