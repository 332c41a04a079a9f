"""Which numbers a parameter of an attack may have, in one table for Foolbox's classes and our own.

Most classes take any number without a word: with none of its steps, or steps of length 0, an attack
does nothing, and the model looks robust.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase

from blrobust.errors import UserError

Rule = tuple[str, Callable[[float], bool]]

FROM_0: Rule = ("numbers from 0", lambda value: value >= 0)
FROM_1: Rule = ("numbers from 1", lambda value: value >= 1)
FROM_2: Rule = ("numbers from 2", lambda value: value >= 2)
ABOVE_0: Rule = ("numbers above 0", lambda value: value > 0)
UP_TO_1: Rule = ("numbers above 0, up to 1", lambda value: 0 < value <= 1)
BELOW_1: Rule = ("numbers from 0, below 1", lambda value: 0 <= value < 1)
INSIDE: Rule = ("numbers above 0, below 1", lambda value: 0 < value < 1)
FROM_0_TO_1: Rule = ("numbers from 0 to 1", lambda value: 0 <= value <= 1)
ANY: Rule = ("numbers", lambda _: True)

# kind.parameter -> what is legal where that is not what its type says; the first that matches holds.
RULES: dict[str, Rule] = {
    "fourier.*": ANY,  # the row and column of a frequency have signs
    "*.d": FROM_0,  # half a side: 0 is the pixel itself
    "local-search.r": ("numbers above 1, up to 2", lambda value: 1 < value <= 2),  # 1 moves nothing
    "*.low": FROM_0_TO_1,
    "*.high": UP_TO_1,
    "*.probability": FROM_0_TO_1,
    "*.confidence": FROM_0,
    "*.regularization": FROM_0,
    "*.source_step_convergance": FROM_0,  # 0: goes on to the last step
    "*.step_adaptation": FROM_1,  # below 1 it would run away from the target
    "deepfool-*.candidates": FROM_2,  # the class itself is one
    "deepfool-*.overshoot": FROM_0,
    "mifgsm.momentum": FROM_0,
    "brendel-bethge-*.momentum": BELOW_1,  # at 1 no gradient but the first counts
    "brendel-bethge-*.lr_decay": UP_TO_1,
    "ddn.gamma": INSIDE,  # at 1 the radius becomes 0 and stays so
    "fmn-*.gamma": INSIDE,
}


def check(change: str, kind: str, name: str, value: float) -> None:
    """Raise ``UserError`` where a parameter of a kind cannot be ``value``, as ``change`` asks."""
    otherwise = FROM_1 if isinstance(value, int) else ABOVE_0
    matching = (rule for pattern, rule in RULES.items() if fnmatchcase(f"{kind}.{name}", pattern))
    legal, accepts = next(matching, otherwise)
    if not accepts(value):
        raise UserError(f"--set {change!r}: legal: {legal}")
