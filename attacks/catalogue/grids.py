"""The levels at which attacks are run, and the checks that need neither images nor models."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from blrobust.attacks.catalogue import selection
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.errors import UserError, shown
from blrobust.perturbations import levels

Levels = str | float | Iterable[str | float]
LEGAL = "legal: a dictionary from names to levels, or names"
Attacks = str | Iterable[str] | Mapping[str, Levels | None]


class Grid(NamedTuple):
    """The levels of an attack; `is_default` is true if the attack or a suite, not the user, has set them."""

    levels: tuple[float, ...]
    is_default: bool


def grids(attacks: Attacks, *, strength: str = "attacks") -> dict[str, Grid]:
    """Return the attacks by name with their levels.

    `attacks` is text for `selection.kinds` (names, patterns and suites), an iterable of such texts, or a
    mapping from such texts to levels, where None means the default levels. An attack that is selected twice
    has the levels of both selections. Raises `UserError` for a text that selects no attack, and for illegal
    levels. A message about levels begins with `strength`, the name of the argument or option of the levels.
    """
    if not isinstance(attacks, Iterable):
        raise UserError(f"attacks: got {shown(attacks)}; {LEGAL}")
    names = [attacks] if isinstance(attacks, str) else list(attacks)
    for part in names:
        if not isinstance(part, str):
            raise UserError(f"attacks: got {shown(part)} as a name; {LEGAL}")
    if not isinstance(attacks, Mapping):
        text = ",".join(names)
        return {name: Grid(grid, is_default=True) for name, grid in selection.kinds(text).items()}
    found: dict[str, Grid] = {}
    for part, given in attacks.items():
        chosen = selection.kinds(part)
        if given is not None:
            chosen = dict.fromkeys(chosen, levels.parse_given(given, name=strength))
        for name, grid in chosen.items():
            before = found.get(name, Grid((), is_default=True))
            both = tuple(sorted({*before.levels, *grid}))
            found[name] = Grid(both, is_default=before.is_default and given is None)
    if not found:
        raise UserError("attacks: got no attacks; legal: names that 'blrobust attacks' lists")
    return found


def check(chosen: Mapping[str, Grid], *, target: int | None, legacy: bool, strength: str = "attacks") -> None:
    """Raise `UserError` for attacks or levels that do not fit the other options.

    A `target` class needs a targeted attack. Linf levels are at most 1, except in the published input space,
    with `legacy`. With `legacy`, the attack "uniform" is not available. A message about levels begins with
    `strength`, the name of the argument or option of the levels.
    """
    if target is not None and not any(ATTACKS[name].targeted for name in chosen):
        legal = ", ".join(name for name, spec in ATTACKS.items() if spec.targeted)
        raise UserError(f"target: got {target} for {', '.join(chosen)}; legal: targeted attacks ({legal})")
    for name, (grid, _) in chosen.items():
        if not legacy and ATTACKS[name].norm == "Linf" and grid[-1] > 1:
            raise UserError(
                f"{strength}: got {grid[-1]:g} for {name}; legal: 0 to 1, the largest change of a pixel; "
                f"for steps of 8 bits write {grid[-1]:g}/255"
            )
    if legacy and "uniform" in chosen:
        raise UserError(
            "space: got the attack uniform; legal: 'blrobust noise --kind uniform --legacy', which has "
            "the published axis"
        )
