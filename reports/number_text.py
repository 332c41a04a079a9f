"""Numbers of a report as text: shares, differences, p-values, levels."""

import math
import re
from decimal import ROUND_HALF_UP, Decimal

from blrobust.reports.axes import Axis

NONE = "–"
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
BELOW = f"below 50{NBSP}% from the start"
DIGITS = 12  # significant digits kept before rounding; float errors then leave exact halves exact
MOST_DECIMALS = 6
PLAIN = re.compile(r"\d+(\.\d+)?")  # a number, not a fraction, a bound or one with an exponent
THRESHOLD = 0.05  # of significance (`statistics.SIGNIFICANCE`)


def fixed(value: float, decimals: int) -> str:
    """Return a finite number as text with `decimals` decimals; exact halves are rounded away from zero."""
    step = Decimal(1).scaleb(-decimals)
    return str(Decimal(f"{value:.{DIGITS}g}").quantize(step, ROUND_HALF_UP))


def per_cent(share: float) -> str:
    """Return a share in per cent with one decimal, without the sign, for a column, a figure or a terminal."""
    return fixed(100 * share, 1)


def percent(share: float) -> str:
    """Return a share in per cent with one decimal, or a dash if it is NaN."""
    return NONE if math.isnan(share) else f"{per_cent(share)}{NBSP}%"


def span(low: float, high: float) -> str:
    """Return an interval of shares in per cent, such as "81.0 to 84.2"; empty if it is NaN."""
    return "" if math.isnan(low) else f"{per_cent(low)} to {per_cent(high)}"


def nominal(share: float) -> str:
    """Return a nominal compression in per cent, with up to six digits."""
    return f"{100 * share:.6g}{NBSP}%"


def points(difference: float, *, decimals: int = 1) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    text = fixed(abs(100 * difference), decimals)
    sign = "" if float(text) == 0 else MINUS if difference < 0 else "+"
    return f"{sign}{text}"


def points_span(low: float, high: float, *, decimals: int = 1) -> str:
    """Return an interval of differences in percentage points with signs, such as "+0.3 to +2.1"."""
    return f"{points(low, decimals=decimals)} to {points(high, decimals=decimals)}"


def points_and_span(difference: float, low: float, high: float) -> tuple[str, str]:
    """Return a difference in percentage points and its interval.

    Both have one decimal. They have more if the interval excludes 0 but an end of it would be rounded to 0.
    """
    decimals = 1
    if low > 0 or high < 0:
        least = 100 * min(abs(low), abs(high))
        while decimals < MOST_DECIMALS and float(fixed(least, decimals)) == 0:
            decimals += 1
    return points(difference, decimals=decimals), points_span(low, high, decimals=decimals)


def p_value(p: float) -> str:
    """Return a p-value as text: "p = 0.031" (`p_digits`), or "p < 0.001"."""
    return f"p{NBSP}<{NBSP}0.001" if p < 0.001 else f"p{NBSP}={NBSP}{p_digits(p)}"


def p_digits(p: float) -> str:
    """Return a p-value with two significant digits, or with as many as show on which side of 0.05 it is.

    So 0.0501, for which no difference is found, does not become 0.05.
    """
    digits = 2
    while digits < DIGITS and p != THRESHOLD and not _same_side(float(f"{p:.{digits}g}"), p):
        digits += 1
    return f"{p:.{digits}g}"


def _same_side(rounded: float, p: float) -> bool:
    return rounded < THRESHOLD if p < THRESHOLD else rounded > THRESHOLD


def half_level(level: float, levels: list[float], axis: Axis) -> str:
    """Return text for `level`, at which accuracy falls to 50 % (computed by `Analysis.summary_over`).

    `levels` are the measured levels. If `level` is the first of them, the text is `BELOW`.
    """
    return BELOW if level == levels[0] else level_at(level, levels, axis)


def half_span(texts: list[str]) -> str:
    """Return the interval of the level at which accuracy falls to 50 %.

    `texts` are the level and the lower and the upper end of its interval, each from `half_level`. The result
    is empty if the level is a dash, or if all three texts are the same end of the measured levels. If the
    lower end is `BELOW`, the interval starts at level 0. Otherwise both ends have the same number of
    decimals.
    """
    level, low, high = texts
    has_none = level == NONE or (level == low == high and (level == BELOW or level.startswith(">")))
    if has_none:
        return ""
    if low == BELOW:
        return f"0 to {high}"
    if not PLAIN.fullmatch(low) or not PLAIN.fullmatch(high):
        return f"{low} to {high}"
    decimals = max(len(end.partition(".")[2]) for end in (low, high))
    return f"{Decimal(low):.{decimals}f} to {Decimal(high):.{decimals}f}"


def level_at(level: float, levels: list[float], axis: Axis) -> str:
    """Return the text of a level that need not be one of the measured `levels`, such as an interpolated one.

    A measured level is written by `Axis.format`. Other levels are rounded to about 1/1000 of the largest
    level, or to 0.1/255 if levels are in Linf, but keep at least one significant digit. NaN becomes a dash.
    Infinity, which stands for a level above all measured ones, becomes ">" and the last level.
    """
    last = levels[-1]
    if math.isnan(level):
        return NONE
    if math.isinf(level):
        return f">{NBSP}{axis.format(last)}"
    if level in levels:
        return axis.format(level)
    steps = _rounded(255 * level, 1)
    if axis.norm == "Linf" and 0 < steps < 255:
        return f"{steps:g}/255"
    return axis.format(_rounded(level, max(0, 3 - math.ceil(math.log10(last))) if last else 0))


def _rounded(value: float, decimals: int) -> float:
    """Return `value` rounded to `decimals` decimals, or to one significant digit if that would be 0."""
    return float(fixed(value, decimals)) or float(f"{value:.1g}")


def verdict_counts(better: int, worse: int, count: int) -> tuple[str, str]:
    """Return the numbers of levels at which a model is better and worse, in words, as two lines.

    `count` is the number of all levels.
    """
    losses = "no level" if worse == 0 else _levels(worse)  # a plain 0 could be read as level 0
    return f"better at {better} of {_levels(count)},", f"worse at {losses}"


def _levels(count: int) -> str:
    return f"{count} level{'' if count == 1 else 's'}"
