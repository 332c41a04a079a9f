"""Markdown tables, and numbers with their confidence intervals as text."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table with the column names `head`."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def percent(share: float) -> str:
    """Return a fraction in per cent, without the sign: `92.4`."""
    return f"{100 * share:.1f}"


def percent_within(share: float, low: float, high: float) -> str:
    """Return a fraction in per cent with its distance to the farther end of its interval: `92.4 ± 0.6`."""
    return f"{percent(share)} ± {100 * max(share - low, high - share):.1f}"


def points(difference: float) -> str:
    """Return a difference of fractions in percentage points with its sign: `+1.3`, `0.0`."""
    shown = f"{100 * difference:+.1f}"
    return "0.0" if float(shown) == 0 else shown


def within(value: float, low: float, high: float) -> str:
    """Return a value and its interval: `0.288 (0.285 to 0.292)`."""
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
