"""Results as tables of text for a page."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from blrobust.analysis.analysis import BASELINE, REJECTED, SUMMARY, Analysis, concatenate
from blrobust.analysis.statistics import SIGNIFICANCE
from blrobust.reports.axes import Axis

if TYPE_CHECKING:
    from blrobust.runs.run import Run

Row = dict[Hashable, Any]

NONE = "–"
HASH = 12  # hex digits shown; run.json has them all
NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Cell:
    """A value, a smaller line below it (its interval), and its comparison with the baseline."""

    text: str
    detail: str = ""
    sign: str = ""  # "better", "worse" or ""


@dataclass
class Table:
    """Column names, of which the first is for the rows' names, and rows: a name and its cells."""

    header: list[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)


def summary(runs: Mapping[str, Analysis], axis: Axis) -> Table:
    """Return the numbers of each model: compression, clean, mean, level at 50 %, against fp32.

    `runs` are by name; the rows of several runs are sorted by model.
    """
    frames = [analysis.summary.assign(run=name) for name, analysis in runs.items()]
    frame = concatenate(frames, [*SUMMARY, "run"])
    order = {model: index for index, model in enumerate(dict.fromkeys(frame.model))}
    frame = frame.sort_values("model", key=lambda models: models.map(order), kind="stable")
    header = [
        *("model", "nominal compression", "effective compression"),
        *("clean accuracy", "mean accuracy", f"level at 50{NBSP}% ({axis.name})"),
    ]
    against = frame.better.notna().any()
    table = Table([*header, f"levels above {BASELINE}"] if against else header)
    for row in frame.to_dict("records"):
        grid = runs[row["run"]].levels
        half = [level_at(row[f"half_level{end}"], grid, axis) for end in ("", "_low", "_high")]
        cells = [
            Cell(nominal(row["nominal_compression"])),
            Cell(percent(row["effective_compression"])),
            Cell(percent(row["clean"]), span(row["clean_low"], row["clean_high"])),
            Cell(percent(row["mean"]), span(row["mean_low"], row["mean_high"])),
            Cell(half[0], "" if half[0] == NONE else f"{half[1]} to {half[2]}"),
        ]
        if against:
            cells.append(_levels_above(row["better"], row["worse"], len(grid)))
        table.rows.append((row_name(row["model"], row["run"], runs), cells))
    return table


def row_name(model: str, run: str, runs: Mapping[str, object]) -> str:
    """Return a model's name, with the name of its run where there are several."""
    return model if len(runs) == 1 else f"{model}, {run}"


def levels(analysis: Analysis, axis: Axis) -> Table:
    """Return accuracy with its interval, a row per level and a column per model."""
    rows = _by_cell(analysis.table)
    models = analysis.run.models
    other = [] if axis.other is None else [axis.other_name]
    table = Table([axis.name, *other, *models])
    for level in analysis.levels:
        cells = [] if axis.other is None else [Cell(f"{float(axis.other(np.array(level))):#.3g}")]
        for model in models:
            row = rows.get((level, model))
            cells.append(
                Cell(percent(row["accuracy"]), span(row["ci_low"], row["ci_high"])) if row else Cell(NONE)
            )
        table.rows.append((axis.format(level), cells))
    return table


def tests(analysis: Analysis, axis: Axis) -> Table:
    """Return differences to the baseline in points with adjusted p-values, and Cochran's Q."""
    rows = _by_cell(analysis.paired)
    across = {row["level"]: p_value(row["p_holm"]) for row in analysis.across_models.to_dict("records")}
    compared = [model for model in analysis.run.models if any(model == other for _, other in rows)]
    names = [f"{model} minus {analysis.baseline}" for model in compared]
    table = Table([axis.name, *names, *(["all models alike?"] if across else [])])
    for level in analysis.levels if compared else []:
        cells = [_difference(rows.get((level, model))) for model in compared]
        if across:
            cells.append(Cell(across.get(level, NONE)))
        table.rows.append((axis.format(level), cells))
    return table


def models(run: "Run") -> Table:
    """Return the architecture, training and weights of each model."""
    columns = {
        "architecture": "arch",
        "precision": "precision",
        "transform size": "fft_size",
        "parameters": "parameters",
        "training seed": "seed",
        "recorded accuracy": "test_accuracy",
        "weights SHA-256": "sha256",
        "note": "note",
    }
    cards = run.cards
    columns = {
        name: key for name, key in columns.items() if any(c.get(key) is not None for c in cards.values())
    }
    table = Table(["model", "nominal compression", "effective compression", *columns])
    for label, card in cards.items():
        cells = [
            Cell(nominal(card["nominal_compression"])),
            Cell(percent(card["effective_compression"])),
            *(Cell(_plain(key, card.get(key))) for key in columns.values()),
        ]
        table.rows.append((label, cells))
    return table


def rejection_note(analysis: Analysis) -> str | None:
    """Return the numbers of attacked inputs that failed each check, None where all passed."""
    count: Counter[str] = Counter()
    for checks in analysis.checks.values():
        count += checks.statuses
    failed = {name.lower().replace("_", " "): count[name] for name in REJECTED if count[name]}
    if not failed:
        return None
    reasons = ", ".join(f"{number:,} {name}" for name, number in failed.items())
    attacked = count.total() - count["NOT_ATTACKED"] - count["IS_TARGET"]
    return (
        f"{sum(failed.values()):,} of {attacked:,} attacked inputs were rejected "
        f"by the checks and count as robust: {reasons}."
    )


def flag_note(flags: Mapping[str, list[str]]) -> str | None:
    """Return the flags of the models that have any, None where none has."""
    found = [f"{name}: {', '.join(reasons)}" for name, reasons in flags.items() if reasons]
    return f"{'; '.join(found)}." if found else None


def percent(share: float) -> str:
    """Return a share in per cent with one decimal, a dash where it is missing."""
    return NONE if math.isnan(share) else f"{100 * share:.1f}{NBSP}%"


def span(low: float, high: float) -> str:
    """Return the ends of an interval of shares, in per cent."""
    return "" if math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def nominal(share: float) -> str:
    """Return a nominal compression in per cent, with the digits that it was given with."""
    return f"{100 * share:.6g}{NBSP}%"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    rounded = round(100 * difference, 1)
    return f"{MINUS if rounded < 0 else '+' if rounded > 0 else ''}{abs(rounded):.1f}"


def p_value(p: float) -> str:
    """Return a p-value to two digits."""
    return f"p{NBSP}<{NBSP}0.001" if p < 0.001 else f"p{NBSP}={NBSP}{p:.2g}"


def level_at(level: float, levels: list[float], axis: Axis) -> str:
    """Return a crossing level with a resolution of about 1/1000 of the grid; `> last` beyond the grid."""
    last = levels[-1]
    if math.isnan(level):
        return NONE
    if math.isinf(level):
        return f">{NBSP}{axis.format(last)}"
    if "/" in (fraction := axis.format(level)):
        return fraction
    decimals = max(0, 3 - math.ceil(math.log10(last))) if last else 0
    return f"{level:.{decimals}f}"


def _levels_above(better: float, worse: float, count: int) -> Cell:
    if math.isnan(better):
        return Cell(NONE)
    above, below = round(better * count), round(worse * count)
    sign = "better" if above > below else "worse" if below > above else ""
    return Cell(f"{above} of {count}", f"below: {below} of {count}", sign)


def _difference(row: Row | None) -> Cell:
    if row is None:
        return Cell(NONE)
    significant = row["p_holm"] < SIGNIFICANCE
    sign = ("better" if row["difference"] > 0 else "worse") if significant else ""
    return Cell(points(row["difference"]), p_value(row["p_holm"]), sign)


def _by_cell(frame: pd.DataFrame) -> dict[tuple[float, str], Row]:
    return {(row["level"], row["model"]): row for row in frame.to_dict("records")}


def _plain(key: str, value: object) -> str:
    if value is None:
        return NONE
    if key == "sha256":
        return str(value)[:HASH]
    if isinstance(value, float):
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
