"""Legal values of the numeric parameters that a user changes with `--set`.

Most classes of Foolbox accept any number without an error. With no steps, or with steps of length 0, an
attack does nothing, and the model looks robust. The classes of this project check their parameters
themselves. So `RULES` needs an entry for such a class only where the general rules (whole numbers from 1,
other numbers above 0) would reject a legal value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

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


def _up_to(most: int, least: int = 1) -> Rule:
    """Return the rule for a number of objects that are in memory at the same time: `least` to `most`."""
    return f"numbers from {least} to {most:,}", lambda value: least <= value <= most


# Pattern of `kind.parameter` -> rule. The first match holds; without one, `FROM_1` for whole numbers and
# `ABOVE_0` for other numbers.
RULES: dict[str, Rule] = {
    "fourier.*": ANY,  # the row and column of a frequency have signs
    "*.d": FROM_0,  # half the side of a square around a pixel; 0 is the pixel alone
    "*.low": FROM_0,
    "*.quantile": BELOW_1,
    "*.probability": FROM_0,
    "*.confidence": FROM_0,
    "*.regularization": FROM_0,
    "*.source_step_convergance": FROM_0,  # with 0 the attack runs to its last step
    "*.step_adaptation": FROM_1,  # below 1 the step sizes adapt in the wrong direction
    "deepfool-*.candidates": FROM_2,  # the predicted class is one of them
    "deepfool-*.overshoot": FROM_0,
    "mifgsm.momentum": FROM_0,
    "brendel-bethge-*.momentum": BELOW_1,  # at 1 only the first gradient counts
    "brendel-bethge-*.lr_decay": UP_TO_1,
    "ddn.gamma": INSIDE,  # at 1 the radius becomes 0 and stays 0
    "*.angles": _up_to(1_000),
    "*.shifts": _up_to(100),  # along each axis
    "*.tries": _up_to(10_000),
    "*.starts": _up_to(1_000),
    "*.directions": _up_to(10_000),
    "*.queries": _up_to(1_000_000),
    "*.initial_gradient_eval_steps": _up_to(10_000),
    "gen.population": _up_to(1_000, least=2),  # each member is a copy of the image
}


def check(given: str, kind: str, name: str, value: float) -> None:
    """Raise `UserError` unless `value` is legal for the parameter `name` of the attack `kind`.

    `given` is the user's text after `--set`, for the message.
    """
    by_type = FROM_1 if isinstance(value, int) else ABOVE_0
    matching = (rule for pattern, rule in RULES.items() if fnmatchcase(f"{kind}.{name}", pattern))
    legal, accepts = next(matching, by_type)
    if not accepts(value):
        raise UserError(f"parameters: got {given}; legal: {legal}")


@dataclass(frozen=True)
class Data:
    """The properties of a data set that limit parameters: height and width in pixels, number of classes."""

    height: int
    width: int
    classes: int


@dataclass(frozen=True)
class Limit:
    """The smallest and the largest legal value of a parameter, as functions of the data set.

    `of_classes` is true if the limits depend on the number of classes, and false if on the image size.
    """

    least: Callable[[Data], int]
    most: Callable[[Data], int]
    of_classes: bool = False


# Pattern of `kind.parameter` -> limit
LIMITS: dict[str, Limit] = {
    "simba-dct.frequencies": Limit(lambda data: 1, lambda data: min(data.height, data.width)),
    "fourier.row": Limit(lambda data: -(data.height // 2), lambda data: data.height // 2),
    "fourier.column": Limit(lambda data: -(data.width // 2), lambda data: data.width // 2),
    "fourier-worst.step": Limit(lambda data: 1, lambda data: max(data.height, data.width) - 1),
    "local-search.candidates": Limit(lambda data: 1, lambda data: data.height * data.width),
    "deepfool-*.candidates": Limit(lambda data: 2, lambda data: data.classes, of_classes=True),
    "*.targets": Limit(lambda data: 1, lambda data: data.classes - 1, of_classes=True),
}


def check_limits(kind: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any], data: Data) -> None:
    """Raise `UserError` for the first parameter of the attack `kind` that exceeds its limit for the data set.

    Parameters with their default value are not checked, because most attacks lower a default that is too
    large.
    """
    for name, value in parameters.items():
        limit = next((x for pattern, x in LIMITS.items() if fnmatchcase(f"{kind}.{name}", pattern)), None)
        if limit is None or value == defaults.get(name):
            continue
        least, most = limit.least(data), limit.most(data)
        if not least <= value <= most:
            of = f"{data.classes} classes" if limit.of_classes else f"images of {data.height} x {data.width}"
            raise UserError(f"parameters: got '{kind}.{name}={value}'; legal for {of}: {least} to {most}")
