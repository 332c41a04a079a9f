"""The kinds of noise with their default levels and spaces, in a module that does not import torch."""

from typing import NamedTuple

from blrobust.errors import UserError
from blrobust.perturbations.paper_bounds import SPACE


class NoiseKind(NamedTuple):
    """The default levels and the default space of a kind of noise, and the levels of the published curve."""

    levels: str
    space: str
    published: str


KINDS = {
    "gaussian": NoiseKind("0:2", "normalized", "0:2"),
    "uniform": NoiseKind("0:0.5", "pixel", "0:1"),
}
SPACES = ("normalized", "pixel", SPACE)


def default_levels(kind: str, space: str | None) -> str:
    """Return the default levels of a kind of noise, in the notation of `levels.parse`.

    In the space "legacy" they are the levels of the published curve.
    """
    return KINDS[kind].published if space == SPACE else KINDS[kind].levels


def default_space(kinds: list[str]) -> str:
    """Return the default space of `kinds`; raise `UserError` if they have different ones."""
    spaces = {KINDS[kind].space for kind in kinds}
    if len(spaces) > 1:
        raise UserError(
            f"space: got none for {' and '.join(kinds)}; legal: {', '.join(SPACES)}, since their default "
            "spaces differ"
        )
    return spaces.pop()


def check_kind(kind: str) -> None:
    """Raise `UserError` unless `kind` is a kind of noise."""
    if kind not in KINDS:
        raise UserError(f"noise: got {kind!r}; legal: {', '.join(KINDS)}")
