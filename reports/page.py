"""The report of one run, or the comparison of several runs, as one self-contained HTML file."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.view import run_names
from blrobust.reports import attacks, figures, overview, paper_curves, tables, template
from blrobust.reports.axes import Axis, axis
from blrobust.reports.bibliography import bibtex
from blrobust.reports.conclusions import conclusions, few_images
from blrobust.reports.downloads import bibliography_file, results_file
from blrobust.reports.figures import Curve
from blrobust.reports.mixture import mixture_note
from blrobust.reports.tables import Table
from blrobust.runs.run import Run


@dataclass(frozen=True)
class Strip:
    """One image at several levels, with the class that each model predicts at each level."""

    sample: int
    label: str
    pictures: list[tuple[str, str]]  # level in words, image as data URI
    rows: list[tuple[str, list[tuple[str, bool]]]]  # model, then class and whether it is correct


@dataclass(frozen=True)
class RunEntry:
    """The part of a report about one kind of noise or attack in one run, as text."""

    name: str
    kind: str
    facts: str
    note: str | None
    unfinished: str | None
    command: str
    conclusions: list[str]
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
    """The worst case over the attacks of a run: its table, images, draws, and a warning of too few images."""

    table: Table
    n: int
    draws: int
    warnings: list[str]


@dataclass(frozen=True)
class Section:
    """The part of a report with one axis: a figure with the curves of all runs, and an entry for each run.

    `anchor` is its id in the page, and `name` is the title of the axis, made unique in the page.
    """

    anchor: str
    name: str
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

    @property
    def short(self) -> str:
        """The name without its article, for the overview and the contents."""
        return self.name.removeprefix("the ")

    @property
    def is_attack(self) -> bool:
        """Whether the axis is of an attack and not of noise."""
        return any(entry.attack is not None for entry in self.entries)


def render(runs: Sequence[RunAnalysis], destination: Path) -> None:
    """Write the report of `runs` to `destination`, whole or not at all.

    Runs with the same kind of noise or attack and the same input space share a figure; each other combination
    has a section of its own. Raises `OSError` if `destination` cannot be written.
    """
    names = run_names([results.run.path for results in runs])
    by_name = dict(zip(names, runs, strict=True))
    models = list(dict.fromkeys(model for results in runs for model in results.run.models))
    sections = _sections(by_name, models)
    sources = bibtex(entry.kind for section in sections for entry in section.entries)
    files = [results_file(r.table, of="" if len(runs) == 1 else name) for name, r in by_name.items()]
    template.render(
        "page.html",
        destination,
        of=[results.run for results in runs],
        sections=sections,
        matrix=_matrix(by_name, sections, models),
        worst={name: worst for name, run in by_name.items() if (worst := _worst(run))},
        provenance={name: _provenance(results.run) for name, results in by_name.items()},
        data_notes=_notes(by_name),
        files=[*files, *([bibliography_file(sources)] if sources else [])],
        bibtex=sources,
        published_label=paper_curves.LABEL,
        baseline=template.baseline_tag(runs[0].baseline) if len(runs) == 1 else "",
    )


def _worst(results: RunAnalysis) -> WorstCase | None:
    table, n = attacks.worst_case_table(results), len(results.run.labels)
    return None if table is None else WorstCase(table, n, results.run.draws, few_images(n))


def _sections(runs: dict[str, RunAnalysis], models: list[str]) -> list[Section]:
    groups: dict[tuple[str, str, tuple[float, ...]], dict[str, RunAnalysis]] = {}
    for name, results in runs.items():
        space, std = results.run.sweep.space, tuple(results.run.record.dataset.std)
        for kind in results.kinds:
            groups.setdefault((kind, space, std), {})[name] = results
    axes = [_common_axis(members, kind, space, list(std)) for (kind, space, std), members in groups.items()]
    names = _distinct([(on.title, space) for on, (_, space, _) in zip(axes, groups, strict=True)])
    return [
        _section(members, kind, on, models, number=number, name=name)
        for number, ((kind, *_), members, on, name) in enumerate(
            zip(groups, groups.values(), axes, names, strict=True)
        )
    ]


def _distinct(titles: list[tuple[str, str]]) -> list[str]:
    """Return a name for each title and input space: the title, with the space and a number where needed."""
    repeated = Counter(title for title, _ in titles)
    names = [f"{title}, {space} space" if repeated[title] > 1 else title for title, space in titles]
    return [
        f"{name} ({names[: index + 1].count(name)})" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]


def _common_axis(runs: dict[str, RunAnalysis], kind: str, space: str, std: list[float]) -> Axis:
    levels = {level for results in runs.values() for level in results.kinds[kind].levels}
    return axis(kind, space, std, levels=levels)


def _matrix(
    runs: dict[str, RunAnalysis], sections: list[Section], models: list[str]
) -> overview.Matrix | None:
    parts = [
        (section.anchor, tables.row_name(section.short, entry.name, runs), section.axis, analysis)
        for section in sections
        for entry in section.entries
        for analysis in [runs[entry.name].kinds[entry.kind]]
    ]
    return overview.matrix(parts, models)


def _section(
    runs: dict[str, RunAnalysis], kind: str, on: Axis, models: list[str], *, number: int, name: str
) -> Section:
    shown = [model for model in models if any(model in results.run.models for results in runs.values())]
    entries = []
    for index, (run_name, results) in enumerate(runs.items()):
        table = results.kinds[kind].table
        curves = {
            model: Curve(
                name=tables.row_name(model, run_name, runs),
                frame=table[table.model == model],
                model=models.index(model),
                run=index,
            )
            for model in results.run.models
        }
        entries.append(_entry(run_name, results, kind, on, curves))
    curves = {curve.name: curve for entry in entries for curve in entry.curves.values()}
    analyses = {name: results.kinds[kind] for name, results in runs.items()}
    first = next(iter(runs.values())).run
    facts = [results.run.record.dataset for results in runs.values()]
    paper = paper_curves.series(
        kind=kind,
        space=first.sweep.space,
        datasets=[data.name for data in facts],
        n=max(data.n for data in facts),
        models=shown,
        last=max(analysis.levels[-1] for analysis in analyses.values()),
    )
    architectures = [card.arch for results in runs.values() for card in results.run.cards.values()]
    colours = [figures.colour(models.index(series.model)) for series in paper]
    wide, narrow = (
        figures.accuracy(
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
        anchor=f"part{number}",
        name=name,
        axis=on,
        models=shown,
        curves=curves,
        wide=wide,
        narrow=narrow,
        published=colours,
        dashed=paper_curves.caption(paper[0].images, architectures) if paper else "",
        summary=tables.summary(analyses, on),
        mixture=mixture_note(analyses, on),
        entries=entries,
    )


def _entry(name: str, results: RunAnalysis, kind: str, on: Axis, curves: dict[str, Curve]) -> RunEntry:
    run, analysis = results.run, results.kinds[kind]
    record = run.record
    data = record.dataset
    levels = analysis.levels
    source = run.sweep.origin
    draws = "one draw" if run.draws == 1 else f"{run.draws} draws"
    grid = f"{len(levels)} levels from {on.describe(levels[0])} to {on.format(levels[-1])}"
    if len(levels) == 1:
        grid = f"1 level, {on.describe(levels[0])}"
    attack = attacks.attack_table(results, kind, on)
    control = controls.best_control(analysis) if controls.band_limited(analysis) else None
    control = None if control == analysis.baseline else control
    return RunEntry(
        name=name,
        kind=kind,
        facts=(
            f"{data.n:,} images of {data.name} ({data.split} split), {grid}, {draws} per image and "
            "level"
            + (f"; the inputs were found on {source} and tested on every model (transfer)" if source else "")
        ),
        note=data.note if kind == run.kinds[0] else None,  # once per run
        unfinished=_unfinished(run),
        command=record.command_line,
        conclusions=conclusions(analysis, on) + attacks.gradient_notes(analysis, on),
        tests=tables.tests(analysis, on, analysis.baseline),
        against_controls=tables.against_controls(analysis),
        control=control,
        control_tests=None if control is None else tables.tests(analysis, on, control),
        draws=run.draws,
        levels=tables.levels(analysis, on),
        strip=_strip(analysis, on),
        rejected=tables.rejection_note(analysis),
        attack=attack,
        flags=tables.flag_note(analysis.flags) if attack is None else None,
        curves=curves,
    )


def _strip(analysis: Analysis, on: Axis) -> Strip | None:
    run, kind = analysis.run, analysis.kind
    pictures = [picture for picture in run.pictures() if picture.kind == kind]
    if not pictures:
        return None
    classes = run.record.dataset.classes
    sample, label = pictures[0].sample, pictures[0].label
    rows = []
    for model in run.models:
        predictions = [
            int(run.outcome(model, kind, picture.level, 0)["prediction"][sample]) for picture in pictures
        ]
        # -1 stands for logits that are not finite.
        rows.append((model, [(classes[p] if p >= 0 else "none", p == label) for p in predictions]))
    uris = [f"data:image/png;base64,{base64.b64encode(p.png).decode()}" for p in pictures]
    words = [on.describe(picture.level) for picture in pictures]
    return Strip(sample, classes[label], list(zip(words, uris, strict=True)), rows)


def _unfinished(run: Run) -> str | None:
    return None if run.finished else f"{len(run.done())} of {run.cells} cells are done"


def _notes(runs: dict[str, RunAnalysis]) -> dict[str, list[str]]:
    """Return the names of the runs with each note on their data."""
    found: dict[str, list[str]] = {}
    for name, results in runs.items():
        if note := results.run.record.dataset.note:
            found.setdefault(note, []).append(name)
    return found


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
        "unfinished": _unfinished(run),
        "models": tables.models(run),
        "sessions": record.sessions,
        "config": {key: json.dumps(value) for key, value in record.config.encode().items()},
    }
