"""The report of one run, or the comparison of several runs, as one self-contained HTML file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.trained_and_tested import Topic, topic
from blrobust.analysis.view import run_names
from blrobust.reports import attacks, figures, paper_curves, tables, template
from blrobust.reports.answers import Answer, answers
from blrobust.reports.axes import Axis, axis
from blrobust.reports.band_limit_figures import BandLimitFigures, band_limit_figures
from blrobust.reports.conclusions import conclusions, few_images, findings
from blrobust.reports.figures import Curve
from blrobust.reports.mixture import mixture_note
from blrobust.reports.paper_tables import PublishedPoints, published_points
from blrobust.reports.seed_notes import seed_notes, seed_range
from blrobust.reports.strip import Strip, image_strip
from blrobust.reports.tables import Table
from blrobust.runs.run import Run


@dataclass(frozen=True)
class RunEntry:
    """The part of a report about one kind of noise or attack in one run, as text."""

    name: str
    facts: str
    note: str | None
    unfinished: str | None
    command: str
    conclusions: list[str]
    answers: list[Answer]
    published: list[PublishedPoints]
    tests: Table
    against_controls: Table | None
    control: str | None  # the best model without band limits, unless it is the baseline
    control_tests: Table | None
    draws: int
    levels: Table
    strip: Strip | None
    rejected: str | None
    attack: Table | None
    flags: str | None  # None for an attack, whose table has the flags
    curves: dict[str, Curve]  # by model


@dataclass(frozen=True)
class WorstCase:
    """The worst case over the attacks of a run: table, numbers of images and draws, and a warning, if any."""

    table: Table
    n: int
    draws: int
    warnings: list[str]


@dataclass(frozen=True)
class Section:
    """The part of a report with one axis: a figure with the curves of all runs, and an entry for each run."""

    axis: Axis
    models: list[str]
    curves: dict[str, Curve]  # by name
    wide: Markup
    narrow: Markup
    published: list[str]  # colours of the published curves
    dashed: str  # the text about the published curves; empty if there are none
    summary: Table
    mixture: str | None
    entries: list[RunEntry]
    band_limits: BandLimitFigures | None  # of runs that measure clean images only
    is_mismatch: bool  # whether models are tested at other band limits than that of their training

    @property
    def title(self) -> str:
        """The title of the section."""
        if self.is_mismatch:
            return "Clean accuracy at other band limits than in the training"
        if self.band_limits is not None:
            return "Clean accuracy by band limit"
        return f"Accuracy under {self.axis.title}"

    @property
    def is_attack(self) -> bool:
        """Whether the axis is of an attack and not of noise."""
        return any(entry.attack is not None for entry in self.entries)

    @property
    def has_seeds(self) -> bool:
        """Whether a curve is the mean over several training seeds."""
        return any(curve.seeds for curve in self.curves.values())


def render(runs: Sequence[RunAnalysis], destination: Path) -> None:
    """Write the report of `runs` to `destination`, completely or not at all.

    There is a section for each combination of a kind of noise or attack and an input space; its runs share a
    figure. Raises `OSError` if `destination` cannot be written.
    """
    names = run_names([results.run.path for results in runs])
    by_name = dict(zip(names, runs, strict=True))
    groups = [group for results in runs for group in results.groups.values()]
    template.render(
        "page.html",
        destination,
        of=[results.run for results in runs],
        sections=_sections(by_name),
        worst={name: worst for name, run in by_name.items() if (worst := _worst(run))},
        provenance={name: _provenance(results.run) for name, results in by_name.items()},
        published_label=paper_curves.LABEL,
        seeds=seed_notes(groups),
        seed_range=seed_range(groups),
        baseline=template.baseline_tag(runs[0].baseline) if len(runs) == 1 else "",
    )


def _worst(results: RunAnalysis) -> WorstCase | None:
    table, n = attacks.worst_case_table(results), len(results.run.labels)
    return None if table is None else WorstCase(table, n, results.run.draws, few_images(n))


def _sections(runs: dict[str, RunAnalysis]) -> list[Section]:
    groups: dict[tuple[str, str, tuple[float, ...], Topic], dict[str, RunAnalysis]] = {}
    for name, results in runs.items():
        space, std = results.run.sweep.space, tuple(results.run.record.dataset.std)
        for kind in results.kinds:
            groups.setdefault((kind, space, std, topic(results)), {})[name] = results
    return [
        _section(members, kind, _common_axis(members, kind, space, list(std)), about, number)
        for number, ((kind, space, std, about), members) in enumerate(groups.items())
    ]


def _common_axis(runs: dict[str, RunAnalysis], kind: str, space: str, std: list[float]) -> Axis:
    levels = {level for results in runs.values() for level in results.kinds[kind].levels}
    return axis(kind, space, std, levels=levels)


def _section(runs: dict[str, RunAnalysis], kind: str, on: Axis, about: Topic, number: int) -> Section:
    models = list(dict.fromkeys(model for results in runs.values() for model in results.groups))
    entries = []
    for index, (name, results) in enumerate(runs.items()):
        curves = {
            model: Curve.of(
                results.kinds[kind],
                model,
                name=tables.row_name(model, name, runs),
                index=models.index(model),
                run=index,
            )
            for model in results.groups
        }
        entries.append(_entry(name, results, kind, on, curves, about))
    curves = {curve.name: curve for entry in entries for curve in entry.curves.values()}
    analyses = {name: results.kinds[kind] for name, results in runs.items()}
    first = next(iter(runs.values())).run
    facts = [results.run.record.dataset for results in runs.values()]
    paper = paper_curves.series(
        kind=kind,
        space=first.sweep.space,
        datasets=[data.name for data in facts],
        n=max(data.n for data in facts),
        models=models,
        last=max(analysis.levels[-1] for analysis in analyses.values()),
    )
    architectures = [card.arch for results in runs.values() for card in results.run.cards.values()]
    colours = [figures.colour(models.index(series.model)) for series in paper]
    wide, narrow = (
        Markup("")  # `band_limits` has the figure
        if about
        else figures.accuracy(
            list(curves.values()),
            on,
            published=list(zip(paper, colours, strict=True)),
            chance=1 / len(facts[0].classes),
            size=size,
            prefix=f"figure{number}{width}",
        )
        for width, size in (("wide", figures.WIDE), ("narrow", figures.NARROW))
    )
    return Section(
        axis=on,
        models=models,
        curves=curves,
        wide=wide,
        narrow=narrow,
        published=colours,
        dashed=paper_curves.caption(paper[0].images, architectures) if paper else "",
        summary=Table([]) if about == "mismatch" else tables.summary(analyses, on),
        mixture=mixture_note(analyses, on),
        entries=entries,
        band_limits=band_limit_figures(runs, about, prefix=f"limits{number}") if about else None,
        is_mismatch=about == "mismatch",
    )


def _entry(
    name: str, results: RunAnalysis, kind: str, on: Axis, curves: dict[str, Curve], about: Topic
) -> RunEntry:
    has_tests, has_levels = about != "mismatch", not about
    run, analysis = results.run, results.kinds[kind]
    record = run.record
    data = record.dataset
    levels = analysis.levels
    source = run.sweep.origin
    draws = "one draw" if run.draws == 1 else f"{run.draws} draws"
    grid = f"{len(levels)} levels from {on.describe(levels[0])} to {on.format(levels[-1])}"
    if len(levels) == 1:
        grid = f"1 level, {on.describe(levels[0])}"
    cells = len(run.models) * len(levels) * run.draws
    attack = attacks.attack_table(results, kind, on)
    control = controls.best_control(analysis) if has_levels and controls.band_limited(analysis) else None
    control = None if control == analysis.baseline else control
    return RunEntry(
        name=name,
        facts=(
            f"{data.n:,} images of {data.name} ({data.split} split), {grid}, {draws} per image and "
            "level"
            + (f"; the inputs were found on {source} and tested on every model (transfer)" if source else "")
        ),
        note=data.note if kind == run.kinds[0] else None,  # once per run
        unfinished=None if run.finished else f"{len(run.done())} of {cells} cells are done",
        command=record.command_line,
        conclusions=_conclusions(analysis, on, about),
        answers=[] if about else answers(analysis, on),
        published=published_points(analysis, on, about),
        tests=tables.tests(analysis, on, analysis.baseline) if has_tests else Table([]),
        against_controls=tables.against_controls(analysis) if has_levels else None,
        control=control,
        control_tests=None if control is None else tables.tests(analysis, on, control),
        draws=run.draws,
        levels=tables.levels(analysis, on),
        strip=image_strip(analysis, on) if has_levels else None,
        rejected=tables.rejection_note(analysis),
        attack=attack,
        flags=tables.flag_note(analysis.flags) if attack is None else None,
        curves=curves,
    )


def _conclusions(analysis: Analysis, on: Axis, about: Topic) -> list[str]:
    if about == "mismatch":
        return []
    if about == "rates":  # without a gain, controls that are not measured are not missing
        return findings(analysis, on)
    return conclusions(analysis, on) + attacks.gradient_notes(analysis, on)


def _provenance(run: Run) -> dict[str, Any]:
    record = run.record
    data = record.dataset
    facts = {
        "command": record.command_line,
        "folder": str(run.path),
        "configuration hash": record.hash,
        "seed": record.config.seed,
        "data": f"{data.name}, {data.split} split, {data.n:,} images",
        "data checksum": data.checksum,
        "started": record.started,
        "finished": record.finished or "not yet",
    }
    return {
        "facts": facts,
        "models": tables.models(run),
        "sessions": record.sessions,
        "config": {key: json.dumps(value) for key, value in record.config.encode().items()},
    }
