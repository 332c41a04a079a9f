"""The attacks and parameters that a user selects by name."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from blrobust.attacks.catalogue import parameter_rules
from blrobust.attacks.catalogue.attack_spec import AttackSpec, Preset
from blrobust.attacks.catalogue.measured_queries import measured_queries
from blrobust.attacks.catalogue.suites import SUITES
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.errors import UserError
from blrobust.perturbations import levels

SUITE = "suite:"
MOST_SIMILAR = 3  # names that a message suggests
LISTED = "'blrobust attacks' lists them"


def kinds(text: str, *, name: str = "attacks") -> dict[str, tuple[float, ...]]:
    """Return the names of the attacks that `text` selects, each with its levels.

    `text` is a comma-separated list of names, patterns such as `pgd*` and suites such as `suite:quick`;
    `name` is the name of the option or argument, for messages. An attack of a suite has the levels of the
    suite, all other attacks have their default levels. An attack that is selected twice has the levels of
    both selections. Raises `UserError` if a part of the list selects no attack.
    """
    found: dict[str, tuple[float, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        for kind, grid in _members(part, name).items():
            own = levels.parse(grid or ATTACKS[kind].grid)
            found[kind] = tuple(sorted({*found.get(kind, ()), *own}))
    if not found:
        raise UserError(f"{name}: got {text!r}; legal: names that 'blrobust attacks' lists")
    return found


def _members(part: str, name: str) -> Mapping[str, str | None]:
    """Return the names of the attacks that `part` (a name, pattern or suite) selects, each with its levels.

    Levels are text in the syntax of `levels.parse`; None means the default levels of the attack.
    """
    suites = {SUITE + suite: members for suite, members in SUITES.items()}
    if part.startswith(SUITE):
        if part not in suites:
            raise UserError(f"{name}: got {part!r}; legal suites: {', '.join(suites)}")
        return suites[part]
    matching = [kind for kind in ATTACKS if fnmatchcase(kind, part)]
    if not matching:
        raise UserError(
            f"{name}: got {part!r}{did_you_mean(part, [*ATTACKS, *suites])}; legal: names, patterns such as "
            f"'pgd*' and suites; {LISTED}"
        )
    return dict.fromkeys(matching)


def did_you_mean(text: str, names: Collection[str]) -> str:
    """Return a suggestion of the most similar `names` for a message; an empty text if none is similar.

    Names that begin with `text` are the most similar ones.
    """
    longer = [name for name in names if name.startswith(text)]
    near = list(dict.fromkeys([*longer, *get_close_matches(text, names, n=MOST_SIMILAR)]))[:MOST_SIMILAR]
    return f", did you mean {' or '.join(near)}?" if near else ""


def parameters(chosen: Sequence[str], changes: Sequence[str], preset: Preset) -> dict[str, dict[str, Any]]:
    """Return the parameters of each chosen attack: those of the preset, with the `changes` applied.

    `changes` are texts such as `steps=100,restarts=5` or `pgd-linf.steps=100`. Raises `UserError` for a
    parameter that none of the chosen attacks has or that is given twice, a value of another type, and a
    number that is not legal.
    """
    found = {kind: ATTACKS[kind].budget(preset) for kind in chosen}
    seen: dict[str, str] = {}
    for change in (part.strip() for text in changes for part in text.split(",") if part.strip()):
        name, sign, value = change.partition("=")
        if not sign:
            raise UserError(f"parameters: got {change!r}; legal: name=value, as in steps=100")
        name = name.strip()
        if name in seen:
            raise UserError(f"parameters: got {seen[name]!r} and {change!r}; legal: each parameter once")
        seen[name] = change
        only, dot, name = name.rpartition(".")
        if dot and only not in found:
            raise UserError(f"parameters: got {change!r}; legal: the chosen attacks {', '.join(found)}")
        affected = [only] if dot else list(found)
        settable = {kind: ATTACKS[kind].settable() for kind in affected}
        having = [kind for kind in affected if name in settable[kind]]
        if not having:
            legal = {each for names in settable.values() for each in names}
            raise UserError(
                f"parameters: got {change!r}; legal parameters of the chosen attacks: "
                f"{', '.join(sorted(legal)) or 'none'}"
            )
        for kind in having:
            # For messages: the attack is added unless the change names it or only one attack is chosen.
            given = repr(change) if dot or len(found) == 1 else f"{change!r} for {kind}"
            found[kind][name] = _typed(given, value.strip(), settable[kind][name])
            if isinstance(found[kind][name], str):
                _check_word(given, found[kind][name], ATTACKS[kind].words(name))
            elif not isinstance(found[kind][name], bool):
                parameter_rules.check(given, kind, name, found[kind][name])
    return found


def _typed(given: str, text: str, default: Any) -> Any:
    """Return `text` converted to the type of `default`; `given` describes the change in error messages."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UserError(f"parameters: got {given}; legal: true, false")
        return text.lower() == "true"
    kind = type(default)
    try:
        value = kind(text)
    except ValueError:
        names = {int: "whole numbers", float: "numbers", str: "words"}
        raise UserError(f"parameters: got {given}; legal: {names[kind]}") from None
    if isinstance(value, int | float) and not abs(value) < 1e9:  # also false for NaN
        raise UserError(f"parameters: got {given}; legal: numbers below 1e9")
    return value


def _check_word(given: str, word: str, legal: Sequence[str]) -> None:
    if legal and word not in legal:  # without a list of words, the attack itself checks the text
        raise UserError(f"parameters: got {given}; legal: {', '.join(legal)}")


def summary(kind: str, spec: AttackSpec, grid: tuple[float, ...]) -> dict[str, str]:
    """Return the row of the attack `kind` in the list of attacks, as text by column, with levels `grid`."""
    settable = ", ".join(f"{name}={value}" for name, value in spec.settable().items())
    is_default = grid == levels.parse(spec.grid)
    found = measured_queries().get(kind)
    listed = ",".join(levels.format_level(level, spec.strength.norm) for level in grid)
    return {
        "name": kind,
        "family": spec.family,
        "norm": spec.norm.split(" (")[0],  # "L0 (pixels)" as "L0": the unit names pixels
        "levels": spec.grid if is_default else listed,
        "forward": "-" if found is None else f"{found.forwards:g}",
        "gradient": "-" if found is None else f"{found.backwards:g}",
        "queries": spec.queries + (", targeted" if spec.targeted else ""),
        "parameters": settable or "-",
        "unit of the levels": spec.strength.axis,
        "source": spec.source,
    }
