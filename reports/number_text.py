"""Numbers of a report as text: shares, differences, p-values, levels."""

import math

from blrobust.reports.axes import Axis

NONE = "–"
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
BELOW = f"below 50{NBSP}% from the start"


def percent(share: float) -> str:
    """Return a share in per cent with one decimal, or a dash if it is NaN."""
    return NONE if math.isnan(share) else f"{100 * share:.1f}{NBSP}%"


def span(low: float, high: float) -> str:
    """Return an interval of shares in per cent, such as "81.0 to 84.2"; empty if it is NaN."""
    return "" if math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def nominal(share: float) -> str:
    """Return a nominal compression in per cent, with up to six digits."""
    return f"{100 * share:.6g}{NBSP}%"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    rounded = round(100 * difference, 1)
    return f"{MINUS if rounded < 0 else '+' if rounded > 0 else ''}{abs(rounded):.1f}"


def points_span(low: float, high: float) -> str:
    """Return an interval of differences in percentage points with signs, such as "+0.3 to +2.1"."""
    return f"{points(low)} to {points(high)}"


def p_value(p: float) -> str:
    """Return a p-value with two significant digits, or as "p < 0.001"."""
    return f"p{NBSP}<{NBSP}0.001" if p < 0.001 else f"p{NBSP}={NBSP}{p:.2g}"


def half_level(level: float, levels: list[float], axis: Axis) -> str:
    """Return in words the level at which accuracy falls to 50 % (`Analysis.summary_over`).

    `levels` are the measured levels.
    """
    return BELOW if level == levels[0] else level_at(level, levels, axis)


def half_span(texts: list[str]) -> str:
    """Return the interval of the level at which accuracy falls to 50 %.

    `texts` are that level and the lower and the upper end of its interval, each from `half_level`. The result
    is empty if there is no such level, or if all three texts are the same end of the measured levels. If the
    lower end is `BELOW`, the interval starts at level 0.
    """
    level, low, high = texts
    has_none = level == NONE or (level == low == high and (level == BELOW or level.startswith(">")))
    if has_none:
        return ""
    return f"{0 if low == BELOW else low} to {high}"


def level_at(level: float, levels: list[float], axis: Axis) -> str:
    """Return an interpolated level as text, with a resolution of about 1/1000 of the largest level.

    NaN becomes a dash. Infinity, a level beyond the measured `levels`, becomes `> last`.
    """
    last = levels[-1]
    if math.isnan(level):
        return NONE
    if math.isinf(level):
        return f">{NBSP}{axis.format(last)}"
    if axis.norm == "Linf":
        exact = axis.format(level)
        return exact if "/" in exact or not level else f"{255 * level:.1f}/255"
    decimals = max(0, 3 - math.ceil(math.log10(last))) if last else 0
    return f"{level:.{decimals}f}"


def verdict_counts(better: int, worse: int, count: int) -> tuple[str, str]:
    """Return the numbers of levels at which a model is better and worse, in words, as two lines.

    `count` is the number of all levels.
    """
    return f"better at {better} of {count} level{'' if count == 1 else 's'},", f"worse at {worse}"
