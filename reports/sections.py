"""The sections of a report: the figure, tables and sentences of each kind of noise and attack."""

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.trained_and_tested import Topic, topic
from blrobust.reports import attacks, figures, palette, paper_curves, tables
from blrobust.reports.answers import Answer, answers
from blrobust.reports.axes import Axis, axis
from blrobust.reports.band_limit_figures import BandLimitFigures, band_limit_figures
from blrobust.reports.conclusions import conclusions, findings
from blrobust.reports.figures import Curve
from blrobust.reports.mixture import mixture_note
from blrobust.reports.paper_tables import PublishedPoints, published_points
from blrobust.reports.strip import Strip, image_strip
from blrobust.reports.tables import Table
from blrobust.runs.run import Run

TOPICS: dict[Topic, str] = {  # of runs that measure clean images only -> title
    "mismatch": "Clean accuracy at other band limits than in the training",
    "rates": "Clean accuracy by band limit",
}


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
class Section:
    """The part of a report with one axis: a figure with the curves of all runs, and an entry for each run.

    `anchor` is its id in the page, and `name` is its subject, such as "the pgd-linf attack", unique in the
    page.
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
    band_limits: BandLimitFigures | None  # of runs that measure clean images only
    is_mismatch: bool  # whether models are tested at other band limits than that of their training

    @property
    def short(self) -> str:
        """The name without its article, for the overview and the contents."""
        return self.name.removeprefix("the ")

    @property
    def lead(self) -> str:
        """The words of the title before the short name."""
        if self.band_limits is not None:
            return ""
        return "Accuracy under the " if self.short != self.name else "Accuracy under "

    @property
    def title(self) -> str:
        """The title of the section."""
        return f"{self.lead}{self.short}"

    @property
    def all_curves(self) -> list[Curve]:
        """The curves of all figures of the section."""
        return [*self.curves.values(), *(self.band_limits.curves.values() if self.band_limits else [])]

    @property
    def is_attack(self) -> bool:
        """Whether the axis is of an attack and not of noise."""
        return any(entry.attack is not None for entry in self.entries)

    @property
    def has_seeds(self) -> bool:
        """Whether a curve is the mean over several training seeds."""
        return any(curve.seeds for curve in self.curves.values())


def sections(runs: dict[str, RunAnalysis], models: list[str]) -> list[Section]:
    """Return the sections of a page: one for each combination of kind, input space and colour scaling.

    `runs` maps the names of the runs to their results, and `models` are all models of the page: the index of
    a model in this list decides on its colour and marker in every figure.
    """
    groups: dict[tuple[str, str, tuple[float, ...], Topic], dict[str, RunAnalysis]] = {}
    for name, results in runs.items():
        space, std = results.run.sweep.space, tuple(results.run.record.dataset.std)
        for kind in results.kinds:
            groups.setdefault((kind, space, std, topic(results)), {})[name] = results
    axes = [
        _common_axis(members, kind, space, list(std)) for (kind, space, std, _), members in groups.items()
    ]
    names = _distinct(
        [(TOPICS.get(about, on.title), space) for on, (_, space, _, about) in zip(axes, groups, strict=True)]
    )
    return [
        _section(members, kind, on, about, models, number=number, name=name)
        for number, ((kind, _, _, about), members, on, name) in enumerate(
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


def _section(
    runs: dict[str, RunAnalysis],
    kind: str,
    on: Axis,
    about: Topic,
    models: list[str],
    *,
    number: int,
    name: str,
) -> Section:
    shown = [model for model in models if any(model in results.groups for results in runs.values())]
    entries = []
    for index, (run_name, results) in enumerate(runs.items()):
        curves = {
            model: Curve.of(
                results.kinds[kind],
                model,
                name=tables.row_name(model, run_name, runs),
                index=models.index(model),
                run=index,
            )
            for model in results.groups
        }
        entries.append(_entry(run_name, results, kind, on, curves, about))
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
    colours = [palette.colour(models.index(series.model)) for series in paper]
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
        anchor=f"part{number}",
        name=name,
        axis=on,
        models=shown,
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
    attack = attacks.attack_table(results, kind, on)
    control = controls.best_control(analysis) if has_levels and controls.band_limited(analysis) else None
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
        unfinished=unfinished(run),
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


def unfinished(run: Run) -> str | None:
    """Return the share of the run that is measured, in words; None for a finished run."""
    return None if run.finished else f"{len(run.done())} of {run.cells} cells are done"
