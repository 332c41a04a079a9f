"""A duration on the command line, such as 90s, 10m or 1h."""

import re
from typing import Any

import click

UNITS = {"s": 1, "m": 60, "h": 3600}
MOST = 1e6  # seconds
NONE = "none"


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A positive number with the unit s, m or h, as seconds; "none" becomes infinity."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, or infinity; raise `click.BadParameter` for any other text."""
        if isinstance(value, float) or value == NONE:
            return float("inf") if value == NONE else value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value)
        seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
        if not 0 < seconds <= MOST:
            self.fail(f"got {value}; legal: a time such as 90s, 10m or 1h, or {NONE}", param, ctx)
        return seconds


def words(seconds: float) -> str:
    """Return seconds as text, such as "45 s" or "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
