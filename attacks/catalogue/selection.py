"""What the user asks for: kinds of attack by name, pattern or suite, and the parameters to change."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from blrobust.attacks.catalogue import parameter_rules
from blrobust.attacks.catalogue.attack_spec import AttackSpec, Preset
from blrobust.attacks.catalogue.suites import SUITES
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.errors import UserError
from blrobust.perturbations import levels

SUITE = "suite:"


def kinds(text: str) -> dict[str, tuple[float, ...]]:
    """The kinds that ``text`` names, in its order, with their strengths: a suite's or the default ones.

    ``text`` is a comma-separated list of names, patterns such as ``pgd*`` and suites such as
    ``suite:quick``; a kind named twice has the strengths of both. Raises ``UserError`` for what names
    nothing.
    """
    found: dict[str, tuple[float, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        for kind, grid in _members(part).items():
            strengths = levels.parse(grid or ATTACKS[kind].grid)
            found[kind] = tuple(sorted({*found.get(kind, ()), *strengths}))
    if not found:
        raise UserError(f"--kind {text!r} names no attack; 'blrobust attacks' lists them")
    return found


def _members(part: str) -> Mapping[str, str | None]:
    """The kinds of a name, a pattern or a suite, with their grids, None for the default one."""
    suites = {SUITE + name: members for name, members in SUITES.items()}
    if part.startswith(SUITE):
        if part not in suites:
            raise UserError(f"attack {part!r} does not exist; legal suites: {', '.join(suites)}")
        return suites[part]
    matching = [kind for kind in ATTACKS if fnmatchcase(kind, part)]
    if not matching:
        near = get_close_matches(part, [*ATTACKS, *suites], n=1)
        raise UserError(
            f"attack {part!r} does not exist{f', did you mean {near[0]!r}?' if near else ''}; legal: "
            f"{', '.join(ATTACKS)}, patterns such as 'pgd*', and {', '.join(suites)}"
        )
    return dict.fromkeys(matching)


def parameters(chosen: Sequence[str], changes: Sequence[str], preset: Preset) -> dict[str, dict[str, Any]]:
    """The parameters of each chosen kind: the preset's, changed as ``changes`` says.

    ``changes`` are texts such as ``steps=100,restarts=5`` or ``pgd-linf.steps=100``; each must be a
    parameter of one of the kinds at least. Raises ``UserError`` for one that none has, a value of
    another type, or one that the attack cannot do anything with.
    """
    found = {kind: ATTACKS[kind].budget(preset) for kind in chosen}
    for change in (part.strip() for text in changes for part in text.split(",") if part.strip()):
        name, sign, value = change.partition("=")
        if not sign:
            raise UserError(f"--set {change!r}: legal: name=value, as in steps=100")
        only, dot, name = name.strip().rpartition(".")
        if dot and only not in found:
            raise UserError(f"--set {change!r}: {only!r} is not among the chosen attacks: {', '.join(found)}")
        affected = [only] if dot else list(found)
        settable = {kind: ATTACKS[kind].settable() for kind in affected}
        having = [kind for kind in affected if name in settable[kind]]
        if not having:
            legal = {each for names in settable.values() for each in names}
            raise UserError(
                f"--set {change!r}: no chosen attack has a parameter {name!r}; legal: "
                f"{', '.join(sorted(legal)) or 'none'}"
            )
        for kind in having:
            found[kind][name] = _typed(change, value.strip(), settable[kind][name])
            if isinstance(found[kind][name], str):
                _check_word(change, found[kind][name], ATTACKS[kind].words(name))
            elif not isinstance(found[kind][name], bool):
                parameter_rules.check(change, kind, name, found[kind][name])
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


def _check_word(change: str, word: str, legal: Sequence[str]) -> None:
    if legal and word not in legal:  # a text that is no word is the attack's own to check
        raise UserError(f"--set {change!r}: legal: {', '.join(legal)}")


def summary(kind: str, spec: AttackSpec) -> dict[str, str]:
    """A row of the table in words."""
    settable = ", ".join(f"{name}={value}" for name, value in spec.settable().items())
    return {
        "name": kind,
        "family": spec.family + (", targeted" if spec.targeted else ""),
        "norm": spec.norm,
        "strength": spec.strength.axis,
        "default grid": spec.grid,
        "queries": spec.queries,
        "parameters": settable or "-",
        "source": spec.source,
    }
