"""What the user asks for: kinds of attack by name, pattern or suite, and the parameters to change."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from blrobust.attacks.registry import Entry, Preset
from blrobust.attacks.table import ATTACKS, SUITES
from blrobust.errors import UserError

SUITE = "suite:"
SIGNED = ("row", "column")  # of a frequency, which may be 0 or negative


def kinds(text: str) -> dict[str, str | None]:
    """The kinds that ``text`` names, in its order, with the grid that a suite gives them or None.

    ``text`` is a comma-separated list of names, patterns such as ``pgd*`` and suites such as
    ``suite:quick``. Raises ``UserError`` for what names nothing.
    """
    found: dict[str, str | None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part.startswith(SUITE):
            name = part.removeprefix(SUITE)
            if name not in SUITES:
                legal = ", ".join(SUITE + suite for suite in SUITES)
                raise UserError(f"attack {part!r} does not exist; legal suites: {legal}")
            found |= SUITES[name]
            continue
        matching = [kind for kind in ATTACKS if fnmatchcase(kind, part)]
        if not matching:
            raise UserError(
                f"attack {part!r} does not exist; legal: {', '.join(ATTACKS)}, patterns such as 'pgd*', "
                f"and {', '.join(SUITE + suite for suite in SUITES)}"
            )
        for kind in matching:
            found.setdefault(kind, None)
    if not found:
        raise UserError(f"--kind {text!r} names no attack; 'blrobust attacks' lists them")
    return found


def parameters(chosen: Sequence[str], changes: Sequence[str], preset: Preset) -> dict[str, dict[str, Any]]:
    """The parameters of each chosen kind: the preset's, changed as ``changes`` says.

    ``changes`` are texts such as ``steps=100,restarts=5`` or ``pgd-linf.steps=100``; each must be a
    parameter of one of the kinds at least. Raises ``UserError`` for one that none has, or a value of
    another type.
    """
    found = {kind: ATTACKS[kind].budget(preset) for kind in chosen}
    for change in (part.strip() for text in changes for part in text.split(",") if part.strip()):
        name, sign, value = change.partition("=")
        if not sign:
            raise UserError(f"--set {change!r}: legal: name=value, as in steps=100")
        only, dot, name = name.strip().rpartition(".")
        if dot and only not in found:
            raise UserError(f"--set {change!r}: {only!r} is not among the chosen attacks: {', '.join(found)}")
        places = [only] if dot else list(found)
        settable = {kind: ATTACKS[kind].settable() for kind in places}
        having = [kind for kind in places if name in settable[kind]]
        if not having:
            legal = {each for names in settable.values() for each in names}
            raise UserError(
                f"--set {change!r}: no chosen attack has a parameter {name!r}; legal: "
                f"{', '.join(sorted(legal)) or 'none'}"
            )
        for kind in having:
            found[kind][name] = _typed(change, value.strip(), settable[kind][name])
            if name not in SIGNED:
                _check_least(change, found[kind][name], settable[kind][name])
    return found


def _typed(change: str, text: str, default: Any) -> Any:
    """``text`` as a value of the type of ``default``."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UserError(f"--set {change!r}: legal: true, false")
        return text.lower() == "true"
    kind = type(default)
    try:
        value = kind(text)
    except ValueError:
        names = {int: "a whole number", float: "a number", str: "a word"}
        raise UserError(f"--set {change!r}: {text!r} is not {names[kind]}") from None
    if isinstance(value, int | float) and not abs(value) < 1e9:  # also false for NaN
        raise UserError(f"--set {change!r}: {text} is not a number below 1e9")
    return value


def _check_least(change: str, value: Any, default: Any) -> None:
    """Raise ``UserError`` for a count below 1 or a negative number, where the default is none.

    Most classes take it without a word, do nothing, and the model looks robust.
    """
    least = min(default, 1) if isinstance(default, int) else 0
    if isinstance(value, int | float) and default >= 0 and value < least:
        raise UserError(f"--set {change!r}: legal: numbers from {least}")


def summary(kind: str, entry: Entry) -> dict[str, str]:
    """A row of the table in words."""
    settable = ", ".join(f"{name}={value}" for name, value in entry.settable().items())
    return {
        "name": kind,
        "family": entry.family + (", targeted" if entry.targeted else ""),
        "norm": entry.norm,
        "strength": entry.strength.axis,
        "default grid": entry.grid,
        "queries": entry.queries,
        "parameters": settable or "-",
        "source": entry.source,
    }
