"""Accuracy curves with 95 % bands, drawn with seaborn, as SVG for an HTML page.

matplotlib reads text between `$` signs as mathematics and drops a leading `_`, so it never gets names chosen
by the user: legends are HTML, and tool tips are added to the finished SVG as text nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from blrobust.analysis.analysis import Analysis
from blrobust.reports import svg
from blrobust.reports.axes import Axis
from blrobust.reports.number_text import per_cent, span
from blrobust.reports.palette import COLOURS as COLOURS
from blrobust.reports.palette import FAINT, GRID, INK, SOFT, colour
from blrobust.reports.paper_curves import Series

# matplotlib's markers, each with its path around (18, 6) for the legend.
MARKERS = {
    "o": "M14.2 6a3.8 3.8 0 1 0 7.6 0a3.8 3.8 0 1 0-7.6 0z",
    "s": "M14.6 2.6h6.8v6.8h-6.8z",
    "^": "M18 1.4l4.4 8.2h-8.8z",
    "D": "M18 1l5 5-5 5-5-5z",
    "v": "M18 10.6l-4.4-8.2h8.8z",
    "P": "M16.5 2h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z",
    "X": "M15.2 1.6l2.8 2.2 2.8-2.2 1.6 1.6-2.2 2.8 2.2 2.8-1.6 1.6-2.8-2.2-2.8 2.2-1.6-1.6 2.2-2.8-2.2-2.8z",
}
# Dashes and gaps in line widths, one pattern per run; plain dashes are for published curves.
DASHES = ((), (1, 1.5), (5, 1.5, 1, 1.5), (5, 1.5, 1, 1.5, 1, 1.5))
LINE = 2.0
SEED_LINE = 0.6  # of one training seed of a model
PUBLISHED = (4, 3)
PUBLISHED_LINE = 1.2
STEPS = (1, 2, 4, 8, 16, 32, 64)  # multiples of 1/255 between the ticks of a Linf axis
MOST_TICKS = 8
WIDE = (9.4, 4.9)  # inches of 72 units; text of 11 units is 15 pixels high on a wide page
NARROW = (4.5, 4.6)  # inches; text of 11 units is 11 pixels high on a page of 360 pixels
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: sharp, small, searchable, in the page's font
    "svg.hashsalt": "blrobust",  # the same run gives the same bytes
    "font.size": 11,
    "axes.labelsize": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": FAINT,
    "grid.color": GRID,
}


@dataclass(frozen=True)
class Curve:
    """The accuracy curve of one model in one run, from rows of `Analysis.accuracies`, and its style."""

    name: str
    frame: pd.DataFrame
    model: int  # index of the model among those of the figure
    run: int = 0  # index of the run
    seeds: tuple[pd.DataFrame, ...] = ()  # of a model of several seeds, the rows of each from `Trained.table`

    @classmethod
    def of(cls, analysis: Analysis, model: str, *, index: int, name: str = "", run: int = 0) -> "Curve":
        """Return the curve of a model, with its `index` in the figure; `name` is by default its own."""
        rows, trained = analysis.accuracies, analysis.table
        members = analysis.groups[model].members
        seeds = tuple(trained[trained.model == label] for label in members) if len(members) > 1 else ()
        return cls(name or model, rows[rows.model == model], index, run, seeds)

    @property
    def colour(self) -> str:
        """The colour of the line, the same for a model in every run."""
        return colour(self.model)

    @property
    def key(self) -> str:
        """The id of the curve's key in a page: that of its model and run."""
        return f"key{self.model}-{self.run}"

    @property
    def marker(self) -> str:
        """The matplotlib marker of the points, so that curves of models differ not only in colour."""
        return list(MARKERS)[self.model % len(MARKERS)]

    @property
    def shape(self) -> str:
        """The SVG path of the marker, for the legend."""
        return MARKERS[self.marker]

    @property
    def dash(self) -> tuple[float, ...]:
        """Dashes and gaps in line widths, the same for all models of a run; empty for a solid line."""
        return DASHES[self.run % len(DASHES)]

    @property
    def stroke(self) -> str:
        """The dashes as a value of SVG's `stroke-dasharray`, for the legend."""
        return " ".join(f"{LINE * part:g}" for part in self.dash) or "none"


def accuracy(
    curves: Sequence[Curve],
    axis: Axis,
    *,
    published: Sequence[tuple[Series, str]] = (),
    chance: float,
    size: tuple[float, float] = WIDE,
    prefix: str,
) -> Markup:
    """Return an SVG figure of accuracy (in per cent) over level, with one line and one 95 % band per curve.

    `published` are pairs of a curve of the paper, drawn with dashes, and its colour. `chance` is the accuracy
    of a guess. `size` is in inches. `prefix` makes the ids of the SVG elements unique in the page.
    """
    # "default" first: the user's own matplotlibrc must not change the report.
    with svg.styled("default", seaborn.axes_style("whitegrid"), STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        for series, colour in published:
            axes.plot(
                series.levels,
                100 * np.array(series.accuracy),
                color=colour,
                linestyle=(0, PUBLISHED),
                linewidth=PUBLISHED_LINE,
                zorder=2,
            )
        shown: dict[str, int] = {}
        for number, curve in enumerate(curves):
            before = set(axes.get_children())
            _draw(axes, curve, gid=f"curve{number}")
            for index, artist in enumerate(set(axes.get_children()) - before):
                gid = artist.get_gid() or f"curve{number}-{index}"
                artist.set_gid(gid)
                shown[gid] = curve.model
        axes.axhline(100 * chance, color=FAINT, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        _finish(axes, axis, chance=chance, narrow=size == NARROW)
        return svg.element(
            figure,
            prefix=prefix,
            label=f"Accuracy over {axis.label}, one curve per model; the numbers are in the tables",
            tips={f"curve{i}": _tips(curve, axis) for i, curve in enumerate(curves)},
            series=shown,
        )


def _draw(axes: Axes, curve: Curve, *, gid: str) -> None:
    frame = curve.frame
    if frame["accuracy"].isna().all():  # the model failed at every level: seaborn draws no line
        return
    axes.fill_between(
        frame["level"],
        100 * frame["ci_low"],
        100 * frame["ci_high"],
        color=curve.colour,
        alpha=0.18,
        linewidth=0,
        zorder=3,
    )
    for seed in curve.seeds:
        axes.plot(
            seed["level"],
            100 * seed["accuracy"],
            color=curve.colour,
            linestyle=(0, curve.dash) if curve.dash else "-",
            linewidth=SEED_LINE,
            alpha=0.6,
            zorder=3.5,
        )
    seaborn.lineplot(
        x=frame["level"],
        y=100 * frame["accuracy"],
        estimator=None,
        errorbar=None,
        color=curve.colour,
        linestyle=(0, curve.dash) if curve.dash else "-",
        linewidth=LINE,
        marker=curve.marker,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        clip_on=False,
        zorder=4,
        ax=axes,
    )
    axes.lines[-1].set_gid(gid)


def _finish(axes: Axes, axis: Axis, *, chance: float, narrow: bool) -> None:
    """Draw the axes, the grid, the second unit and the label of the chance level."""
    axes.set(xlabel=axis.label, ylabel="", ylim=(0, 100))
    axes.margins(x=0.015)
    if axes.dataLim.width == 0:  # one level: the axis around it has no meaning
        axes.set_xticks([axes.dataLim.x0])
    elif axis.norm == "Linf":
        _eighth_bit_ticks(axes, axis)
    axes.set_yticks(range(0, 101, 20 if narrow else 10))
    axes.yaxis.set_major_formatter("{x:.0f} %")
    axes.tick_params(length=0, pad=6)
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.annotate(
        f"chance, {100 * chance:.3g} %",
        (0, 100 * chance),  # at the left, where the curves are high
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        color=SOFT,
        fontsize=11,
    )
    if axis.other is not None and axis.back is not None:
        other = axes.secondary_xaxis("top", functions=(axis.other, axis.back))
        other.set_xlabel(axis.other_label, color=SOFT, labelpad=6)
        other.tick_params(length=3, color=FAINT, labelcolor=SOFT)
        other.spines["top"].set_visible(False)
        if axes.dataLim.width == 0:
            other.set_xticks([axis.other(axes.dataLim.x0)])


def _eighth_bit_ticks(axes: Axes, axis: Axis) -> None:
    """Put the ticks of a Linf axis at multiples of 1/255, written as k/255."""
    last = 255 * float(axes.dataLim.x1)
    step = next((step for step in STEPS if last / step <= MOST_TICKS), STEPS[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step / 255))
    axes.xaxis.set_major_formatter(lambda level, _: axis.format(level) if level > 0 else "0")


def _tips(curve: Curve, axis: Axis) -> list[str]:
    return [
        f"{curve.name}, {axis.describe(row['level'])}: {per_cent(row['accuracy'])} % "
        f"({span(row['ci_low'], row['ci_high'])})"
        for row in curve.frame.to_dict("records")
    ]
