"""The page of Fourier heat maps: one map for each model, with a common colour scale."""

from pathlib import Path

import pandas as pd
import seaborn
from markupsafe import Markup
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from blrobust.analysis.heatmap import HeatmapAnalysis, ring_bounds, rings
from blrobust.reports import svg, template
from blrobust.reports.conclusions import few_images
from blrobust.reports.downloads import results_file
from blrobust.reports.figures import STYLE
from blrobust.reports.number_text import per_cent, percent, span
from blrobust.reports.tables import Cell, Table, flag_note

COLOURS = "rocket_r"  # seaborn's, light to dark: more error is darker
SCALE = Normalize(0, 100)


def render(results: HeatmapAnalysis, destination: Path) -> None:
    """Write the page with the heat maps of a run, completely or not at all."""
    groups = dict(list(results.table.groupby("model", sort=False)))
    maps = {
        label: _map(group, str(label), prefix=f"map{i}") for i, (label, group) in enumerate(groups.items())
    }
    template.render(
        "heatmap.html",
        destination,
        of=[results.run],
        record=results.run.record,
        folder=str(results.run.path),
        maps=maps,
        scale=_scale(),
        summary=_summary(results),
        flags=flag_note(results.flags),
        files=[results_file(results.table)],
        bibtex="",
        warnings=few_images(results.run.record.dataset.n),
        percent=percent,
    )


def _map(frame: pd.DataFrame, label: str, *, prefix: str) -> Markup:
    grid = 100 * frame.pivot(index="row", columns="column", values="error")
    with svg.styled("default", STYLE):
        figure = Figure(figsize=(4.2, 4.0), layout="constrained")
        axes = figure.subplots()
        seaborn.heatmap(grid, ax=axes, cmap=COLOURS, norm=SCALE, cbar=False, square=True)
        axes.collections[0].set_gid("cells")
        ticks = [f for f in grid.index if f % max(1, 5 * (len(grid) // 20)) == 0]
        positions = [list(grid.index).index(f) + 0.5 for f in ticks]
        axes.set_xticks(positions, [str(f) for f in ticks], rotation=0)
        axes.set_yticks(positions, [str(f) for f in ticks], rotation=0)
        axes.tick_params(length=2)
        axes.set(xlabel="waves across the image", ylabel="waves down the image")
        tips = [
            f"{row['row']} down, {row['column']} across: {per_cent(row['error'])} % wrong "
            f"({span(row['ci_low'], row['ci_high'])})"
            for row in frame.to_dict("records")
        ]
        return svg.element(
            figure, prefix=prefix, label=f"Heat map of the errors of {label}", tips={"cells": tips}
        )


def _scale() -> Markup:
    with svg.styled("default", STYLE):
        figure = Figure(figsize=(4.2, 0.7), layout="constrained")
        axes = figure.subplots()
        bar = figure.colorbar(
            ScalarMappable(SCALE, COLOURS), cax=axes, orientation="horizontal", drawedges=False
        )
        bar.set_label("error in per cent")
        bar.outline.set_visible(False)
        return svg.element(figure, prefix="scale", label="Colour scale from 0 to 100 per cent")


def _summary(results: HeatmapAnalysis) -> Table:
    frame = results.table
    bands = [f"{name}, {text}" for name, text in ring_bounds(frame).items()]
    result = Table(["model", "clean", "mean", *bands, "worst frequency"])
    for label, row in rings(frame).iterrows():
        cells = [Cell(percent(row[name])) for name in ("clean", "mean", *ring_bounds(frame))]
        worst = results.worst[str(label)]
        ties = f", one of {worst.waves} waves" if worst.waves > 1 else ""
        at = f"({worst.row}, {worst.column}){ties}"
        result.rows.append((str(label), [*cells, Cell(percent(row["worst"]), at)]))
    return result
