"""Results of noise and attacks on stdout: tables, and the sentences of the report."""

import math
from collections.abc import Hashable
from typing import Any

from rich.table import Table
from rich.text import Text

from blrobust.analysis import trained_and_tested
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.cli.tables import flag_column, print_table, stacked, width
from blrobust.reports.attacks import gradient_notes
from blrobust.reports.axes import Axis, axis
from blrobust.reports.conclusions import conclusions, few_images, findings, missing_controls
from blrobust.reports.number_text import (
    MINUS,
    NBSP,
    NONE,
    half_level,
    half_span,
    level_at,
    per_cent,
    span,
    verdict_counts,
)
from blrobust.terminal import echo

SHOWN = 6  # levels in a row of the table, fewer in a narrow terminal
LEVEL, REST = 10, 50  # columns of the terminal for a level, and for all else
AGAINST = 27  # for the comparison with the baseline, which the sentences repeat


def print_summary(analysis: Analysis) -> None:
    """Print one row per model, with 95 % intervals below the numbers, or beside them in a file or a pipe.

    If any model has flags (reasons to doubt its results), they are the last column.
    """
    on = _axis(analysis)
    table = _table(_title(analysis))
    has_others = len(analysis.models) > 1
    headers = ["model", "compression", "clean", "mean", "50 % at"]
    for header in [*headers, f"against {analysis.baseline}"] if has_others else headers:
        table.add_column(Text(header), justify="left" if header == "model" else "right")
    add_flags = flag_column(table, analysis.flags)
    for row in analysis.summary.to_dict("records"):
        cells: list[str | Text] = [
            _model(row["model"], analysis),
            _compression(row["nominal_compression"], row["effective_compression"]),
            _interval(row, "clean"),
            _interval(row, "mean"),
            _half_level(row, analysis.levels, on),
        ]
        if has_others:
            cells.append(_against(row, len(analysis.levels)))
        table.add_row(*cells, *add_flags(row["model"]))
    print_table(table)


def print_conclusions(analysis: Analysis) -> None:
    """Print the conclusions of the report, one sentence per line."""
    _print_lines(conclusions(analysis, _axis(analysis)))


def print_mismatch(analysis: Analysis) -> None:
    """Print the clean accuracy of trained models (rows) at other band limits in the test (columns)."""
    frame = trained_and_tested.mismatch(analysis)
    found = {(row["trained"], row["tested_at"]): row["accuracy"] for row in frame.to_dict("records")}
    tested = sorted(set(frame.tested_at))
    echo(f"clean accuracy in per cent, by the band limit in the test: {_images(analysis)}")
    table = Table()
    for header in ("trained", *(f"{percent} %" for percent in tested)):
        table.add_column(header, justify="left" if header == "trained" else "right")
    for trained in dict.fromkeys(frame.trained):
        shares = (found.get((trained, percent)) for percent in tested)
        table.add_row(Text(trained), *("-" if share is None else per_cent(share) for share in shares))
    print_table(table)
    _print_lines(few_images(len(analysis.run.labels)))


def print_rates(analysis: Analysis) -> None:
    """Print the compressions and the clean accuracy of each model, and the differences that tests find."""
    echo(f"clean accuracy: {_images(analysis)}")
    table = Table()
    for header in ("model", "compression", "accuracy"):
        table.add_column(header, justify="left" if header == "model" else "right")
    add_flags = flag_column(table, analysis.flags)
    for row in analysis.summary.to_dict("records"):
        table.add_row(
            Text(row["model"]),
            _compression(row["nominal_compression"], row["effective_compression"]),
            _interval(row, "clean"),
            *add_flags(row["model"]),
        )
    print_table(table)
    _print_lines(findings(analysis, _axis(analysis)))


def print_attacks(results: RunAnalysis) -> None:
    """Print a table and the conclusions for each attack, then the accuracy over the worst of all attacks."""
    run, models, worst = results.run, results.attacks, results.worst_case
    source = run.sweep.origin
    is_wide = width() >= REST + AGAINST + 3 * LEVEL
    compares = is_wide and len(results.groups) > 1
    columns = max(2, min(SHOWN, (width() - REST - AGAINST * compares) // LEVEL))
    for kind, analysis in results.kinds.items():
        rows = models[models.kind == kind].to_dict("records")
        verdicts = analysis.summary.set_index("model")
        grid, on = analysis.levels, _axis(analysis)
        spread = [grid[round(i * (len(grid) - 1) / (columns - 1))] for i in range(columns)]
        shown = spread if len(grid) > columns else grid
        table = _table(_title(analysis) + (f", found on {source}" if source else ""))
        table.add_column("model")
        for level in shown:
            name = "clean" if level == 0 else on.format(level)
            table.add_column(name, justify="right", no_wrap=True)
        for header in ("median", "success", "passes"):
            table.add_column(header, justify="right")
        if compares:
            table.add_column(Text(f"against {analysis.baseline}"), justify="right")
        table.add_column("flags")
        for row in rows:
            table.add_row(
                _model(row["model"], analysis),
                *(_share(row["accuracy"][level]) for level in shown),
                ascii_text(level_at(row["median"], grid, on)),
                _share(row["success"]),
                f"{row['queries']:,.4g}",
                *([_against(verdicts.loc[row["model"]].to_dict(), len(grid))] if compares else []),
                Text(", ".join(row["flags"]) or "-"),
            )
        print_table(table)
        _print_lines(findings(analysis, on) + gradient_notes(analysis, on))
    _print_lines(missing_controls(next(iter(results.kinds.values()))))
    overall = worst[worst.norm == "any"].to_dict("records")
    if overall:
        n = len(run.labels)
        accuracies = ", ".join(f"{row['model']} {_share(row['accuracy'])}" for row in overall)
        draws = "" if run.draws == 1 else f" and in all {run.draws} draws"
        count = overall[0]["attacks"]
        echo(f"worst case of the {count} attacks, each up to its last strength{draws}, n = {n}: {accuracies}")
        _print_lines(few_images(n))


def _print_lines(sentences: list[str]) -> None:
    for sentence in sentences:
        echo(ascii_text(sentence))


def _table(title: str) -> Table:
    return Table(title=Text(title), title_style="", title_justify="left")


def _title(analysis: Analysis) -> str:
    run = analysis.run
    draws = "one draw" if run.draws == 1 else f"{run.draws} draws"
    return f"{analysis.kind}, {run.sweep.space} space: {_images(analysis)}, {draws}"


def _images(analysis: Analysis) -> str:
    return f"{analysis.run.record.dataset.name}, n = {len(analysis.run.labels)}"


def _axis(analysis: Analysis) -> Axis:
    run = analysis.run
    return axis(analysis.kind, run.sweep.space, run.record.dataset.std, levels=analysis.levels)


def _model(name: str, analysis: Analysis) -> Text:
    """Return the name of a model; of several training seeds with their number."""
    seeds = len(analysis.groups[name].members)
    return Text(name if seeds == 1 else stacked(name, f"({seeds} seeds)"))


def _compression(nominal: float | None, effective: float | None) -> str:
    return stacked(f"{nominal or 0.0:.2f}", f"eff. {effective:.3f}") if effective else "none"


def _interval(row: dict[Hashable, Any], name: str) -> str:
    return stacked(_share(row[name]), span(row[f"{name}_low"], row[f"{name}_high"]))


def _half_level(row: dict[Hashable, Any], grid: list[float], on: Axis) -> str:
    texts = [half_level(row[f"half_level{end}"], grid, on) for end in ("", "_low", "_high")]
    return ascii_text(stacked(texts[0], half_span(texts)))


def _against(row: dict[Hashable, Any], count: int) -> str:
    """Return the numbers of levels at which a model is better and worse than the baseline, in words.

    `count` is the number of all levels.
    """
    if math.isnan(row["better"]):
        return "-"
    return stacked(*verdict_counts(round(row["better"] * count), round(row["worse"] * count), count))


def _share(share: float) -> str:
    return "-" if math.isnan(share) else f"{per_cent(share)} %"


def ascii_text(text: str) -> str:
    """Return text of a report with ASCII in place of special characters that some terminals lack."""
    return text.translate({ord(MINUS): "-", ord(NONE): "-", ord(NBSP): " "})
