"""Figures of clean accuracy over the band limit in the test (paper, Figures 3 and 5), and a heat map."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from blrobust.analysis import trained_and_tested
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.reports import figures, palette, paper_curves
from blrobust.reports.axes import Axis
from blrobust.reports.figures import Curve
from blrobust.reports.number_text import NBSP, NONE, per_cent, percent, span
from blrobust.reports.tables import Row, row_name

AXIS = Axis(
    title="clean images",
    description="The images are not perturbed.",
    name="compression",
    phrase=f"compression {{}}{NBSP}%",
    label="effective compression in the test, in per cent",
)
DARKEST = 0.7  # opacity of a cell with accuracy 1, on which black text can still be read


@dataclass(frozen=True)
class Square:
    """One cell of the heat map: text, interval, tool tip, opacity (0 to 1), whether training was alike."""

    text: str
    interval: str = ""
    tip: str = ""
    opacity: float = 0.0
    is_as_trained: bool = False


@dataclass(frozen=True)
class HeatMap:
    """Rows of a model as trained, and columns of band limits in the test, in per cent."""

    columns: list[str]
    rows: list[tuple[str, list[Square]]]


@dataclass(frozen=True)
class BandLimitFigures:
    """The figure of a section about clean images, and the heat maps of its runs, by name."""

    axis: Axis
    curves: dict[str, Curve]
    wide: Markup
    narrow: Markup
    published: list[str]  # colours of the published curves
    dashed: str
    maps: dict[str, HeatMap]


def band_limit_figures(
    runs: Mapping[str, RunAnalysis], topic: trained_and_tested.Topic, *, prefix: str
) -> BandLimitFigures:
    """Return the figures of runs with the same topic (`trained_and_tested.topic`).

    `prefix` makes the ids of the SVG elements unique in the page.
    """
    analyses = {name: next(iter(results.kinds.values())) for name, results in runs.items()}
    compute = trained_and_tested.mismatch if topic == "mismatch" else trained_and_tested.rates
    frames = {name: compute(analysis) for name, analysis in analyses.items()}
    trained = list(dict.fromkeys(row for frame in frames.values() for row in frame.trained))
    curves: dict[str, Curve] = {}
    for index, (run, frame) in enumerate(frames.items()):
        for model, rows in frame.groupby("trained", sort=False):
            name = row_name(str(model), run, runs)
            points = rows.assign(level=100 * rows.compression)
            curves[name] = Curve(name, points, model=trained.index(str(model)), run=index)
    facts = [results.run.record.dataset for results in runs.values()]
    paper = paper_curves.band_limits(topic, datasets=[data.name for data in facts], models=trained)
    colours = [palette.colour(trained.index(series.model)) for series in paper]
    architectures = [card.arch for results in runs.values() for card in results.run.cards.values()]
    wide, narrow = (
        figures.accuracy(
            list(curves.values()),
            AXIS,
            published=list(zip(paper, colours, strict=True)),
            chance=1 / len(facts[0].classes),
            size=size,
            prefix=f"{prefix}{width}",
        )
        for width, size in (("wide", figures.WIDE), ("narrow", figures.NARROW))
    )
    return BandLimitFigures(
        axis=AXIS,
        curves=curves,
        wide=wide,
        narrow=narrow,
        published=colours,
        dashed=paper_curves.caption(paper[0].images, architectures) if paper else "",
        maps={name: _map(frame) for name, frame in frames.items()} if topic == "mismatch" else {},
    )


def _map(frame: pd.DataFrame) -> HeatMap:
    tested = sorted(set(frame.tested_at))
    rows = []
    for trained, cells in frame.groupby("trained", sort=False):
        found = {row["tested_at"]: row for row in cells.to_dict("records")}
        rows.append((str(trained), [_square(str(trained), found.get(percent)) for percent in tested]))
    return HeatMap([f"{percent}{NBSP}%" for percent in tested], rows)


def _square(trained: str, row: Row | None) -> Square:
    if row is None:
        return Square(NONE)
    share = row["accuracy"]
    return Square(
        per_cent(share),
        interval=span(row["ci_low"], row["ci_high"]),
        tip=f"{row['model']}: {percent(share)} ({span(row['ci_low'], row['ci_high'])})",
        opacity=DARKEST * share,
        is_as_trained=trained_and_tested.is_as_trained(trained, row["tested_at"]),
    )
