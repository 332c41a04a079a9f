"""Lists of perturbation levels in the notation of the command line."""

import math
from collections.abc import Iterable

from blrobust.errors import UserError, shown

COUNT = 21  # levels of "a:b": the published grids have 21 points
MOST = 1001  # a typing error in the step must not make a million levels
DIGITS = 6  # of a level in a report or a terminal, if these tell all levels apart
MOST_DIGITS = 12  # significant digits of a level
LONGEST = 200  # characters of a list in an error message
LARGEST = 1e9  # far above any useful level, far below the largest float32
LEGAL = (
    "legal: a:b (21 levels), a:b:step or a,b,c; numbers from 0 to 1e9, also as 8/255, with a < b, step > 0"
)


def parse(text: str, *, name: str = "levels") -> tuple[float, ...]:
    """Return the levels in `text`: sorted, without repetition, always with level 0.

    `a:b` means 21 evenly spaced levels. `a:b:step` means the levels a, a + step, ... up to b, and includes b
    if a step ends there. `a,b,c` is a list. Values are rounded to 12 significant digits, so that `0:2` gives
    0.3 and not 0.30000000000000004. Raises `UserError` for any other text, with `name` as the name of the
    argument.
    """
    try:
        return _parse(text)
    except ValueError as error:
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        raise UserError(f"{name}: got {shown!r}, {error}; {LEGAL}") from None


def parse_given(given: str | float | Iterable[str | float], *, name: str) -> tuple[float, ...]:
    """Return the levels in `given`: a text for `parse`, a number, or a list of numbers and texts.

    Raises `UserError` for levels of another type, and for illegal ones.
    """
    if isinstance(given, str):
        return parse(given, name=name)
    try:
        values = [given] if isinstance(given, int | float) else list(given)
        texts = list(map(str, values))
    except (TypeError, ValueError):  # not a list, or a number with thousands of digits
        raise UserError(f"{name}: got {shown(given)}; {LEGAL}") from None
    if not values:
        raise UserError(f"{name}: got no levels; {LEGAL}")
    return parse(",".join(texts), name=name)


def _parse(text: str) -> tuple[float, ...]:
    parts = text.split(":")
    if len(parts) == 1:
        numbers = text.split(",")
        if len(numbers) > MOST:
            raise ValueError(f"which lists {len(numbers):,} levels, more than {MOST:,}")
        values = [_number(part) for part in numbers]
    elif len(parts) == 2:
        low, high = _ends(parts)
        values = [low + (high - low) * (i / (COUNT - 1)) for i in range(COUNT)]
    elif len(parts) == 3:
        low, high = _ends(parts)
        step = _number(parts[2])
        if step == 0 or (high - low) / step >= MOST:
            raise ValueError(f"where the step must be > 0 and give at most {MOST} levels")
        # The margin keeps the end of 0:1:0.1, where 1 / 0.1 may come out just below 10.
        values = [low + step * i for i in range(math.floor((high - low) / step + 1e-9) + 1)]
    else:
        raise ValueError("with too many colons")
    return tuple(sorted({0.0, *(float(f"{value:.{MOST_DIGITS}g}") for value in values)}))


def parse_number(text: str) -> float:
    """Return the value of a number such as "0.01" or a fraction such as "8/255".

    Raises `ValueError` for any other text, and `ZeroDivisionError` for a denominator of 0.
    """
    top, _, bottom = text.partition("/")
    return float(top) / float(bottom) if bottom else float(text)


def format_level(level: float, norm: str | None = None, *, digits: int = DIGITS) -> str:
    """Return a level as text: a decimal with at most `digits` digits, or for the norm Linf a fraction of 255.

    Reports and terminals use the default of `digits`, or as many digits as are needed to distinguish the
    levels of a run (`distinct_digits`). With `MOST_DIGITS`, different levels always have different texts.

    An Linf level below 1 becomes a fraction if its numerator is a whole number, such as 8/255. If the
    numerator is another multiple of 1/4, the level becomes a fraction only if this is shorter than the
    decimal: 12.5/255, but 0.1 in place of 25.5/255.
    """
    decimal, steps = f"{level:,.{digits}g}", round(level * 255 * 4) / 4
    fraction = f"{steps:g}/255"
    is_exact = abs(level * 255 - steps) < 1e-6
    if digits > DIGITS:
        is_exact &= f"{steps / 255:,.{digits}g}" == decimal
    if norm != "Linf" or not 0 < level < 1 or not is_exact:
        return decimal
    return fraction if steps % 1 == 0 or len(fraction) < len(decimal) else decimal


def distinct_digits(levels: Iterable[float], norm: str | None = None) -> int:
    """Return the number of digits, at least `DIGITS`, with which `format_level` tells all levels apart."""
    different = set(levels)
    for digits in range(DIGITS, MOST_DIGITS):
        if len({format_level(level, norm, digits=digits) for level in different}) == len(different):
            return digits
    return MOST_DIGITS


def _ends(parts: list[str]) -> tuple[float, float]:
    low, high = map(_number, parts[:2])
    if low >= high:
        raise ValueError(f"where the first level {low:g} is not below the last {high:g}")
    return low, high


def _number(part: str) -> float:
    try:
        value = parse_number(part)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"where {part.strip()!r} is not a number") from None
    if not 0 <= value <= LARGEST:  # also true for NaN
        raise ValueError(f"where {part.strip()} is not from 0 to 1e9")
    return value
