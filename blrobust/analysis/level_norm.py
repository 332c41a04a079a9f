"""The norm of an attack's strengths, which decides how they are written."""

from blrobust.attacks.catalogue.table import ATTACKS


def level_norm(kind: str, space: str) -> str | None:
    """Return the norm of the levels of `kind` in pixel units (`levels.format_level`), `None` for others."""
    return ATTACKS[kind].norm if space == "pixel" and kind in ATTACKS else None
