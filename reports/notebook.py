"""The results of runs as a piece of HTML for a notebook: a table of accuracies and a figure for each kind."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from blrobust.analysis.analysis import Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.reports import figures, template
from blrobust.reports.axes import Axis, axis
from blrobust.reports.figures import Curve
from blrobust.reports.number_text import percent


@dataclass(frozen=True)
class Section:
    """The part about one kind of noise or attack in one run; a row is a curve with its accuracies as text."""

    title: str
    levels: list[str]
    rows: list[tuple[Curve, list[str]]]
    figure: Markup


def fragment(runs: Mapping[str, RunAnalysis]) -> str:
    """Return HTML with a table and an SVG figure for each kind of noise or attack of each run.

    `runs` maps names to runs; the names are shown if there are several. The HTML loads no other files.
    """
    sections = [
        _section(analysis, name if len(runs) > 1 else "", prefix=f"blrobust{number}-{index}")
        for number, (name, results) in enumerate(runs.items())
        for index, analysis in enumerate(results.kinds.values())
    ]
    return template.html("notebook.html", sections=sections)


def accuracies(analysis: Analysis) -> pd.DataFrame:
    """Return accuracies as fractions: one row per model, and one column per level, named by the level."""
    on = _axis(analysis)
    models = [model for model, cells in analysis.outcomes.items() if cells]
    table = analysis.accuracies.pivot(index="model", columns="level", values="accuracy").reindex(models)
    return table.set_axis([on.format(float(level)) for level in table.columns.to_numpy()], axis="columns")


def _axis(analysis: Analysis) -> Axis:
    run = analysis.run
    return axis(analysis.kind, run.sweep.space, run.record.dataset.std, levels=analysis.levels)


def _section(analysis: Analysis, name: str, *, prefix: str) -> Section:
    run = analysis.run
    data = run.record.dataset
    curves = {model: Curve.of(analysis, model, index=number) for number, model in enumerate(analysis.models)}
    rows = accuracies(analysis)
    title = f"{analysis.kind}, {run.sweep.space} space: accuracy on {data.n:,} images of {data.name}"
    return Section(
        title=f"{name}: {title}" if name else title,
        levels=list(rows.columns),
        rows=[(curves[str(model)], [percent(share) for share in rows.loc[model]]) for model in rows.index],
        figure=figures.accuracy(
            list(curves.values()),
            _axis(analysis),
            chance=1 / len(data.classes),
            prefix=prefix,
        ),
    )
