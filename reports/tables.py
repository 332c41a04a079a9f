"""Results as tables of text, for a page of a report."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from blrobust.analysis import controls
from blrobust.analysis.analysis import SPREAD, SUMMARY, Analysis, concatenate
from blrobust.analysis.comparison import Verdict
from blrobust.attacks.status import REJECTED
from blrobust.reports.axes import Axis
from blrobust.reports.mixture import shared_levels
from blrobust.reports.number_text import (
    NBSP,
    NONE,
    half_level,
    half_span,
    nominal,
    p_value,
    per_cent,
    percent,
    points_and_span,
    span,
    verdict_counts,
)  # fmt: skip

if TYPE_CHECKING:
    from blrobust.runs.run import Run

Row = dict[Hashable, Any]

NO_BETTER = "no better than a guess"
HASH = 12  # hex digits shown of a SHA-256; run.json has all 64


@dataclass(frozen=True)
class Cell:
    """The text of a table cell, a smaller line below it, and a mark: "better", "worse" or "" for neither."""

    text: str
    detail: str = ""
    sign: str = ""  # "better", "worse" or ""


@dataclass
class Table:
    """Column names, and rows of a name and its cells; the first column has the names."""

    header: list[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)


def summary(runs: Mapping[str, Analysis], axis: Axis) -> Table:
    """Return a table with one row per model: compressions, accuracies, level at 50 % accuracy, comparison.

    `runs` maps names of runs to their results; the rows of several runs are sorted by model. The comparison
    counts the levels at which a model is better and worse than the baseline. Mean accuracy, and the level at
    which accuracy falls to 50 %, cover the levels that all runs share. Both are missing if the runs share
    only one level and any has more.
    """
    grid = shared_levels(runs)
    frames = [analysis.summary_over(grid).assign(run=name) for name, analysis in runs.items()]
    frame = concatenate(frames, [*SUMMARY, *SPREAD, "run"])
    if len(grid) == 1 and any(len(analysis.levels) > 1 for analysis in runs.values()):
        frame.loc[:, [c for c in (*SUMMARY, *SPREAD) if c.startswith(("mean", "half_level"))]] = math.nan
    order = {model: index for index, model in enumerate(dict.fromkeys(frame.model))}
    frame = frame.sort_values("model", key=lambda models: models.map(order), kind="stable")
    is_comparison, has_seeds = len(runs) > 1, any(analysis.has_seeds for analysis in runs.values())
    header = [
        *("model", *(["images"] if is_comparison else []), *(["training seeds"] if has_seeds else [])),
        *("nominal compression", "effective compression"),
        *("clean accuracy", "mean accuracy", f"level at 50{NBSP}% ({axis.name})"),
    ]
    against = frame.better.notna().any()
    baselines = {analysis.baseline for analysis in runs.values()}
    name = next(iter(baselines)) if len(baselines) == 1 else "the run's baseline"
    table = Table([*header, f"against {name}"] if against else header)
    for row in frame.to_dict("records"):
        half = [half_level(row[f"half_level{end}"], grid, axis) for end in ("", "_low", "_high")]
        analysis = runs[row["run"]]
        cells = [Cell(f"{len(analysis.run.labels):,}")] if is_comparison else []
        cells += [_seeds(row)] if has_seeds else []
        cells += [
            Cell(nominal(row["nominal_compression"])),
            Cell(percent(row["effective_compression"])),
            Cell(percent(row["clean"]), span(row["clean_low"], row["clean_high"])),
            Cell(percent(row["mean"]), span(row["mean_low"], row["mean_high"])),
            Cell(half[0], half_span(half)),
        ]
        if against:
            cell = _verdict_shares(row, len(analysis.levels))
            if cell.text != NONE:
                name = "" if len(baselines) == 1 else f"against {analysis.baseline}"
                guessed = _guessed(analysis.compare(row["model"], analysis.baseline))
                cell = replace(cell, detail=f"{name}{guessed}".removeprefix("; "))
            cells.append(cell)
        table.rows.append((row_name(row["model"], row["run"], runs), cells))
    return table


def row_name(model: str, run: str, runs: Mapping[str, object]) -> str:
    """Return the name of a model, followed by the name of its run if there are several runs."""
    return model if len(runs) == 1 else f"{model}, {run}"


def levels(analysis: Analysis, axis: Axis) -> Table:
    """Return a table of accuracies with their intervals, a row for each level and a column for each model."""
    rows = _by_cell(analysis.accuracies)
    models = analysis.models
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


def tests(analysis: Analysis, axis: Axis, other: str) -> Table:
    """Return a table of the differences in accuracy of all models from the model `other`, a row per level.

    A cell has the difference in percentage points, its interval and the adjusted p-value. If `other` is
    the baseline, the last column has the p-values of Cochran's Q test over all models.
    """
    frames = {m: analysis.compare(m, other) for m in analysis.models if m != other}
    frames = {model: frame.set_index("level") for model, frame in frames.items() if len(frame)}
    q_tests = analysis.across_models.to_dict("records") if other == analysis.baseline else []
    across = {row["level"]: p_value(row["p_holm"]) for row in q_tests}
    names = [f"{model} minus {other}" for model in frames]
    table = Table([axis.name, *names, *(["all models alike?"] if across else [])])
    for level in analysis.levels if frames else []:
        cells = [_difference(f.loc[level].to_dict() if level in f.index else None) for f in frames.values()]
        if across:
            cells.append(Cell(across.get(level, NONE)))
        table.rows.append((axis.format(level), cells))
    return table


def models(run: "Run") -> Table:
    """Return a table of the architecture, the training and the weights of each model."""
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
        name: key
        for name, key in columns.items()
        if any(getattr(card, key) is not None for card in cards.values())
    }
    table = Table(["model", "nominal compression", "effective compression", *columns])
    for label, card in cards.items():
        cells = [
            Cell(nominal(card.nominal_compression)),
            Cell(percent(card.effective_compression)),
            *(Cell(_plain(key, getattr(card, key))) for key in columns.values()),
        ]
        table.rows.append((label, cells))
    return table


def rejection_note(analysis: Analysis) -> str | None:
    """Return the numbers of perturbed inputs that failed each check of the guard; None if all passed."""
    count: Counter[str] = Counter()
    for checks in analysis.checks.values():
        count += checks.statuses
    failed = {s.name.lower().replace("_", " "): count[s.name] for s in REJECTED if count[s.name]}
    if not failed:
        return None
    reasons = ", ".join(f"{number:,} {name}" for name, number in failed.items())
    attacked = count.total() - count["NOT_ATTACKED"] - count["IS_TARGET"]
    return (
        f"{sum(failed.values()):,} of {attacked:,} attacked inputs were rejected "
        f"by the checks and count as robust: {reasons}."
    )


def flag_note(flags: Mapping[str, list[str]]) -> str | None:
    """Return the flags (reasons to doubt results) of all models that have any; None if no model has one."""
    found = [f"{name}: {', '.join(reasons)}" for name, reasons in flags.items() if reasons]
    return f"{'; '.join(found)}." if found else None


def against_controls(analysis: Analysis) -> Table | None:
    """Return a table that compares each band-limited model with each model without band limits.

    A cell has the numbers of levels at which the band-limited model is better and worse, the number of these
    at which neither is better than a guess, and the difference in mean accuracy. The result is None if there
    are no band-limited models or no others.
    """
    limited, others = controls.band_limited(analysis), controls.without_band_limits(analysis)
    if not limited or not others:
        return None
    table = Table(["against", *limited])
    for other in others:
        cells = []
        for model in limited:
            frame = analysis.compare(model, other)
            counts = frame.verdict.value_counts()
            cell = _against(counts.get(Verdict.BETTER, 0), counts.get(Verdict.WORSE, 0), len(analysis.levels))
            value, interval = points_and_span(*analysis.mean_difference(model, other))
            cells.append(replace(cell, detail=f"mean {value} ({interval}){_guessed(frame)}"))
        table.rows.append((other, cells))
    return table


def _seeds(row: Row) -> Cell:
    """Return a cell with the number of seeds, and the spreads of clean and mean accuracy over them."""
    spreads = {name: row[f"{name}_spread"] for name in ("clean", "mean")}
    parts = [f"{name} \N{PLUS-MINUS SIGN}{per_cent(x)}" for name, x in spreads.items() if not math.isnan(x)]
    return Cell("1" if math.isnan(row["seeds"]) else f"{row['seeds']:.0f}", ", ".join(parts))


def _verdict_shares(row: Row, count: int) -> Cell:
    if math.isnan(row["better"]):
        return Cell(NONE)
    return _against(round(row["better"] * count), round(row["worse"] * count), count)


def _against(better: int, worse: int, count: int) -> Cell:
    """Return a cell with the numbers of levels at which a model is better and worse.

    The cell is marked if the model is only better, or only worse.
    """
    sign = Verdict.BETTER if better and not worse else Verdict.WORSE if worse and not better else ""
    return Cell(" ".join(verdict_counts(better, worse, count)), sign=sign)


def _guessed(frame: pd.DataFrame) -> str:
    """Return the end of a cell: the number of differences found where neither model beats a guess.

    `frame` is a result of `Analysis.compare`. The text is empty if there is none.
    """
    found = frame.verdict.isin([Verdict.BETTER, Verdict.WORSE])
    count = int((found & frame.at_floor.astype(bool)).sum())
    return f"; at {count} of these {NO_BETTER}" if count else ""


def _difference(row: Row | None) -> Cell:
    if row is None:
        return Cell(NONE)
    verdict = row["verdict"]
    sign = verdict if verdict in (Verdict.BETTER, Verdict.WORSE) else ""
    end = p_value(row["p_holm"])
    if verdict == Verdict.NOTHING_LEFT:
        end += f"; {verdict}"
    elif sign and row["at_floor"]:
        end += f"; {NO_BETTER}"
    value, interval = points_and_span(row["difference"], row["low"], row["high"])
    return Cell(value, f"{interval}; {end}", sign)


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
