"""Checks of arguments from Python that the command line leaves to the types of its options."""

from collections.abc import Collection, Iterable
from numbers import Real
from typing import Any

from blrobust.errors import UserError, shown

MOST_SEED = 2**32 - 1


def check_range(
    name: str, value: object, low: int, high: int | None = None, *, optional: bool = False
) -> None:
    """Raise `UserError` unless `value`, of the argument `name`, is an integer from `low` to `high`.

    An `optional` argument may also be None.
    """
    if optional and value is None:
        return
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        legal = f"whole numbers from {low}" + ("" if high is None else f" to {high:,}")
        raise UserError(f"{name}: got {shown(value)}; legal: {legal}{', or None' if optional else ''}")


def check_number(name: str, value: object, low: float, high: float, *, legal: str) -> None:
    """Raise `UserError` unless `value`, of the argument `name`, is a number from `low` to `high`.

    `legal` describes the range in the message.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise UserError(f"{name}: got {shown(value)}; legal: {legal}")


def listed(name: str, values: object, kind: type, *, legal: str) -> list[Any]:
    """Return the members of `values`, of the argument `name`, as a list.

    Raises `UserError` unless `values` is a list or another iterable, not a text, whose members are all of
    type `kind`. `legal` describes legal values in the message.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise UserError(f"{name}: got {shown(values)}; legal: {legal}")
    members = list(values)
    for member in members:
        if not isinstance(member, kind) or isinstance(member, bool):
            raise UserError(f"{name}: got {shown(member)} in a list; legal: {legal}")
    return members


def check_choice(name: str, value: object, legal: Collection[str]) -> None:
    """Raise `UserError` unless `value`, of the argument `name`, is one of the `legal` texts."""
    if not isinstance(value, str) or value not in legal:
        raise UserError(f"{name}: got {shown(value)}; legal: {', '.join(legal)}")
