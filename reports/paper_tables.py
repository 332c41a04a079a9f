"""Tables of the published points beside those of a run, and how close they are in one sentence."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from blrobust.analysis.analysis import Analysis
from blrobust.analysis.trained_and_tested import Topic
from blrobust.reports.axes import Axis
from blrobust.reports.number_text import fixed, percent, points_and_span, span
from blrobust.reports.paper_points import band_limit_points, level_points
from blrobust.reports.sentence_parts import margin
from blrobust.reports.tables import Cell, Row, Table

HEADER = ["published point", "published", "here", "difference in points"]


@dataclass(frozen=True)
class PublishedPoints:
    """The published points of one figure or table of the paper that were measured, and their closeness."""

    title: str
    closeness: str
    table: Table


def published_points(analysis: Analysis, axis: Axis, topic: Topic) -> list[PublishedPoints]:
    """Return the published points that a run has measured, each beside the run's own; often none.

    They are those of its noise or attack. Those of clean accuracy by band limit are added to the first kind
    of a run with a band limit, and are those of the `topic` in runs of clean images.
    """
    found = []
    levels = level_points(analysis)
    if not topic and levels.ours.notna().any():
        name = f"Published points under {axis.title}"
        found.append(PublishedPoints(name, closeness(levels, axis), _table(levels, _name(axis))))
    limits = band_limit_points(analysis, topic or "rates")
    is_first = analysis.kind == analysis.run.kinds[0]
    if is_first and (limits.ours.notna() & (limits.level > 0)).any():
        name_of = _tested_at if topic == "mismatch" else _trained_at
        title = "Published clean accuracy by band limit"
        found.append(PublishedPoints(title, _closeness(limits, name_of), _table(limits, name_of)))
    return found


def closeness(points: pd.DataFrame, axis: Axis) -> str:
    """Return a sentence on how close the points of `level_points` are; empty if none was measured."""
    return _closeness(points, _name(axis))


def _closeness(points: pd.DataFrame, name: Callable[[Row], str]) -> str:
    single = points[points.level.notna()]
    found = single[single.ours.notna()]
    if found.empty:
        return ""
    above, below = int((found.low > 0).sum()), int((found.high < 0).sum())
    top = max(found.to_dict("records"), key=lambda row: abs(row["difference"]))
    size = fixed(100 * float(found.difference.abs().mean()), 1)
    missing = len(single) - len(found)
    rest = f" {missing} further published points were not measured." if missing else ""
    return (
        f"Of {len(found)} published points, {len(found) - above - below} are alike here (the interval of the "
        f"difference contains 0), {above} are higher here and {below} lower. The mean size of the difference "
        f"is {size} points, the largest {name(top)}: "
        f"{margin(top['difference'], top['low'], top['high'])}.{rest}"
    )


def _table(points: pd.DataFrame, name: Callable[[Row], str]) -> Table:
    table = Table(HEADER)
    for row in points[points.ours.notna()].to_dict("records"):
        value, interval = points_and_span(row["difference"], row["low"], row["high"])
        where = "" if row["measured"] == row["model"] else f"; {row['measured']}, {percent(row['at'])}"
        cells = [
            Cell(percent(row["published"]), f"{row['images']:,} images"),
            Cell(percent(row["ours"]), span(row["ours_low"], row["ours_high"]) + where),
            Cell(value, interval),
        ]
        table.rows.append((name(row), cells))
    return table


def _name(axis: Axis) -> Callable[[Row], str]:
    def name(row: Row) -> str:
        at: str = "mean over these levels" if pd.isna(row["level"]) else axis.describe(row["at"])
        return f"{row['model']}, {at}"

    return name


def _trained_at(row: Row) -> str:
    return f"effective compression {percent(row['level'])}"


def _tested_at(row: Row) -> str:
    return f"{row['model']} tested at {percent(row['level'])} effective compression"
