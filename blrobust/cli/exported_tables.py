"""Tables of results in Markdown and LaTeX, for `blrobust export`."""

import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from blrobust.analysis.level_norm import level_norm
from blrobust.analysis.trained import TABLE
from blrobust.escaping import escape
from blrobust.perturbations.levels import distinct_digits, format_level
from blrobust.reports.number_text import per_cent

TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "–": "--", "−": "$-$", "±": r"$\pm$", "\xa0": "~",
    "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip
MARKDOWN = re.compile(r"([\\`*_\[\]<>|])")  # characters with a meaning


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of a results table as text.

    Tables of noise and attacks get the columns model, kind, level, n, accuracy in % and its 95 % interval;
    those of heat maps and recoveries keep all columns.
    """
    if list(table.columns) != list(TABLE):
        return table.map(_text)
    digits = {
        kind: distinct_digits(rows.level, level_norm(str(kind), rows["space"].iloc[0]))
        for kind, rows in table.groupby("kind")
    }
    records = [
        {
            "model": row["model"],
            "kind": row["kind"],
            "level": format_level(
                row["level"], level_norm(row["kind"], row["space"]), digits=digits[row["kind"]]
            ),
            "n": str(row["n"]),
            "accuracy (%)": per_cent(row["accuracy"]),
            "95 % interval": f"{per_cent(row['ci_low'])}–{per_cent(row['ci_high'])}",
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame.from_records(records, columns=list(records[0]) if records else None)


def markdown(cells: pd.DataFrame) -> str:
    """Return a table of texts in Markdown, with columns of numbers aligned to the right."""
    rules = ["---:" if right else "---" for right in _aligned_right(cells)]
    rows = [[MARKDOWN.sub(r"\\\1", escape(text)) for text in row] for row in cells.to_numpy().tolist()]
    return "".join(f"| {' | '.join(row)} |\n" for row in [list(cells.columns), rules, *rows])


def latex(cells: pd.DataFrame) -> str:
    """Return a table of texts as a LaTeX `tabular` with the rules of the package booktabs."""
    alignment = "".join("r" if right else "l" for right in _aligned_right(cells))
    header, *rows = (_latex_row(row) for row in [list(cells.columns), *cells.to_numpy().tolist()])
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", header, r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


LAYOUTS: dict[str, Callable[[pd.DataFrame], str]] = {".md": markdown, ".tex": latex}


def _latex_row(texts: list[str]) -> str:
    return " & ".join("".join(TEX.get(c, c) for c in escape(text)) for text in texts) + r" \\"


def _aligned_right(cells: pd.DataFrame) -> list[bool]:
    """Return for each column whether all of its texts begin with a digit or a minus sign, or are empty."""
    return [
        all(not text or text[0].isdigit() or text[0] == "-" for text in row) for row in cells.to_numpy().T
    ]


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
