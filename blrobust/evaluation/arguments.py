"""Checks of arguments from Python that the command line leaves to the types of its options."""

from collections.abc import Collection

from blrobust.errors import UserError

MOST_SEED = 2**32 - 1


def check_range(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raise `UserError` unless `value`, of argument `name`, is None or an integer from `low` to `high`."""
    if value is None:
        return
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        legal = f"whole numbers from {low}" + ("" if high is None else f" to {high:,}")
        raise UserError(f"{name}: got {value!r}; legal: {legal}")


def check_choice(name: str, value: object, legal: Collection[str]) -> None:
    """Raise `UserError` unless `value`, of the argument `name`, is one of the `legal` texts."""
    if value not in legal:
        raise UserError(f"{name}: got {value!r}; legal: {', '.join(legal)}")
