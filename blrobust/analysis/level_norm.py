"""The norm of an attack's levels, which decides whether a level is written as a fraction such as 8/255."""

from blrobust.attacks.catalogue.table import ATTACKS


def level_norm(kind: str, space: str) -> str | None:
    """Return the norm of the attack `kind`, for `levels.format_level`.

    The result is None if `kind` is not an attack, or if levels are not in pixel units.
    """
    return ATTACKS[kind].norm if space == "pixel" and kind in ATTACKS else None
