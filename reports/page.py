"""The report of one run, or the comparison of several runs, as one self-contained HTML file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.view import run_names
from blrobust.reports import attacks, overview, paper_curves, tables, template
from blrobust.reports.bibliography import bibtex
from blrobust.reports.conclusions import few_images
from blrobust.reports.downloads import bibliography_file, results_file
from blrobust.reports.rankings import rankings
from blrobust.reports.sections import Section, sections, unfinished
from blrobust.reports.seed_notes import seed_notes, seed_range
from blrobust.reports.tables import Table
from blrobust.runs.run import Run


@dataclass(frozen=True)
class WorstCase:
    """The worst case over the attacks of a run: table, numbers of images and draws, and a warning, if any."""

    table: Table
    n: int
    draws: int
    warnings: list[str]


def render(runs: Sequence[RunAnalysis], destination: Path) -> None:
    """Write the report of `runs` to `destination`, completely or not at all.

    There is a section for each combination of a kind of noise or attack and an input space; its runs share a
    figure. Raises `OSError` if `destination` cannot be written.
    """
    names = run_names([results.run.path for results in runs])
    by_name = dict(zip(names, runs, strict=True))
    models = list(dict.fromkeys(model for results in runs for model in results.groups))
    parts = sections(by_name, models)
    sources = bibtex(entry.kind for section in parts for entry in section.entries)
    files = [results_file(r.table, of="" if len(runs) == 1 else name) for name, r in by_name.items()]
    groups = [group for results in runs for group in results.groups.values()]
    template.render(
        "page.html",
        destination,
        of=[results.run for results in runs],
        sections=parts,
        keys=list({curve.key: curve for part in parts for curve in part.all_curves}.values()),
        matrix=_matrix(by_name, parts, models),
        worst={name: worst for name, run in by_name.items() if (worst := _worst(run))},
        rankings=rankings(by_name, models),
        provenance={name: _provenance(results.run) for name, results in by_name.items()},
        data_notes=_notes(by_name),
        files=[*files, *([bibliography_file(sources)] if sources else [])],
        bibtex=sources,
        published_label=paper_curves.LABEL,
        seeds=seed_notes(groups),
        seed_range=seed_range(groups),
        baseline=template.baseline_tag(runs[0].baseline) if len(runs) == 1 else "",
    )


def _worst(results: RunAnalysis) -> WorstCase | None:
    table, n = attacks.worst_case_table(results), len(results.run.labels)
    return None if table is None else WorstCase(table, n, results.run.draws, few_images(n))


def _matrix(runs: dict[str, RunAnalysis], of: list[Section], models: list[str]) -> overview.Matrix | None:
    parts = [
        (section.anchor, tables.row_name(section.short, entry.name, runs), section.axis, analysis)
        for section in of
        if section.band_limits is None
        for entry in section.entries
        for analysis in [runs[entry.name].kinds[entry.kind]]
    ]
    return overview.matrix(parts, models)


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
        "unfinished": unfinished(run),
        "models": tables.models(run),
        "sessions": record.sessions,
        "config": {key: json.dumps(value) for key, value in record.config.encode().items()},
    }
