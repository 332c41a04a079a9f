"""The colours of a page and its figures, each with a variant for light and one for dark screens.

Figures are drawn with the light colours; `themed` replaces these by CSS variables, so that one drawing
serves both. Text has a contrast of 4.5 or more to the paper, and curves have 3 or more (WCAG 2.2, AA).
"""

import re
from dataclasses import dataclass

INK = "#222222"
FAINT = "#8a8a8a"
SOFT = "#5c5c5c"
GRID = "#e6e6e6"
PAPER = "#ffffff"
# Okabe and Ito's colours without the two that are too light on white; the first one is for the baseline.
COLOURS = (INK, "#0072b2", "#d55e00", "#009e73", "#aa3f8b", "#8c6d1f", "#3a9bd9", "#7a7a7a")
DARK_COLOURS = ("#ececec", "#5aa9ec", "#ff8c42", "#2fc596", "#e58fcb", "#d3b35c", "#a6dcff", "#a3a3a3")


@dataclass(frozen=True)
class Shade:
    """A colour of the page: its light and its dark variant."""

    light: str
    dark: str


SHADES = {  # CSS variable, without its leading dashes -> colour
    "ink": Shade(INK, DARK_COLOURS[0]),
    "soft": Shade(SOFT, "#b0b3b8"),
    "faint": Shade(FAINT, "#7d828a"),
    "line": Shade("#e2e2e2", "#363a41"),
    "grid": Shade(GRID, "#30343a"),
    "paper": Shade(PAPER, "#16181c"),
    "tint": Shade("#f4f6f8", "#1f2227"),
    "good": Shade("#0b6b45", "#6fd3a3"),
    "good-tint": Shade("#e3f3ea", "#17372a"),
    "bad": Shade("#a8321a", "#ff9e85"),
    "bad-tint": Shade("#fbe9e4", "#44221b"),
    "note": Shade("#4d3a00", "#f0d999"),
    "note-tint": Shade("#fff6df", "#332a12"),
    "note-line": Shade("#ecd08a", "#6b5720"),
    "accent": Shade("#0068a3", DARK_COLOURS[1]),
    "heat": Shade("#8fc4e8", "#1d5f90"),  # of 100 % in a table; 0 % is paper
    **{
        f"c{number}": Shade(*pair)
        for number, pair in enumerate(zip(COLOURS, DARK_COLOURS, strict=True))
        if number
    },
}
VARIABLES = {
    **{shade.light: name for name, shade in SHADES.items() if name.startswith("c")},
    **{SHADES[name].light: name for name in ("ink", "soft", "faint", "grid", "paper")},
}
HEX = re.compile("#[0-9a-f]{6}")
VARIABLE = re.compile(r"var\(--[\w-]+,(#[0-9a-f]{6})\)")


def colour(model: int) -> str:
    """Return the light colour of the model with the index `model` on a page."""
    return COLOURS[model % len(COLOURS)]


def themed(style: str) -> str:
    """Return the text with each light colour of the palette as a CSS variable that falls back to it."""

    def variable(found: re.Match[str]) -> str:
        name = VARIABLES.get(found[0])
        return found[0] if name is None else f"var(--{name},{found[0]})"

    return HEX.sub(variable, style)


def unthemed(text: str) -> str:
    """Return the text with the light colours in place of the CSS variables of `themed`."""
    return VARIABLE.sub(r"\1", text)


def declarations(*, dark: bool) -> str:
    """Return the CSS declarations of all variables for light or for dark screens."""
    return " ".join(f"--{name}: {shade.dark if dark else shade.light};" for name, shade in SHADES.items())
