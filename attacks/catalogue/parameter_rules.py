"""Legal numbers of the parameters that `--set` changes.

Most classes of Foolbox accept any number without an error: with no steps, or steps of length 0, an
attack does nothing, and the model looks robust. Our own classes check their parameters themselves; a
rule for one of them only admits numbers that the rule of the type excludes.
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
ANY: Rule = ("numbers", lambda _: True)

# kind.parameter -> its rule; the first that matches holds, else that of the type.
RULES: dict[str, Rule] = {
    "fourier.*": ANY,  # the row and column of a frequency have signs
    "*.d": FROM_0,  # half a side: 0 is the pixel itself
    "*.low": FROM_0,
    "*.probability": FROM_0,
    "*.confidence": FROM_0,
    "*.regularization": FROM_0,
    "*.source_step_convergance": FROM_0,  # 0: continues to the last step
    "*.step_adaptation": FROM_1,  # below 1 it moves away from the target
    "deepfool-*.candidates": FROM_2,  # the class itself is one
    "deepfool-*.overshoot": FROM_0,
    "mifgsm.momentum": FROM_0,
    "brendel-bethge-*.momentum": BELOW_1,  # at 1 only the first gradient counts
    "brendel-bethge-*.lr_decay": UP_TO_1,
    "ddn.gamma": INSIDE,  # at 1 the radius becomes 0 and stays 0
}


def check(given: str, kind: str, name: str, value: float) -> None:
    """Raise `UserError`, with the change `given` to `--set`, unless a parameter of a kind can be `value`."""
    by_type = FROM_1 if isinstance(value, int) else ABOVE_0
    matching = (rule for pattern, rule in RULES.items() if fnmatchcase(f"{kind}.{name}", pattern))
    legal, accepts = next(matching, by_type)
    if not accepts(value):
        raise UserError(f"--set: got {given}; legal: {legal}")
