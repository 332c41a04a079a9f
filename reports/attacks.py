"""The parts of a report that only attacks have: their summary table, worst cases, the published sign."""

import numpy as np

from blrobust.analysis.analysis import BASELINE, Analysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.perturbations.levels import format_level
from blrobust.reports.axes import Axis
from blrobust.reports.tables import NONE, Cell, Table, level_at, percent, points, span


def attack_table(results: RunAnalysis, kind: str, axis: Axis) -> Table | None:
    """Return a row per model with the effort and success of the attack; None for a sweep of noise."""
    if results.run.config["command"] != "attack":
        return None
    analysis = results.kinds[kind]
    last = analysis.table[analysis.table.level == analysis.levels[-1]]
    survival = dict(zip(last.model, last.survives_rounding, strict=True))
    table = Table(["model", f"median {axis.name}", "success", "passes an image", "survive 8 bits", "flags"])
    for row in results.attacks[results.attacks.kind == kind].to_dict("records"):
        cells = [
            Cell(level_at(row["median"], analysis.levels, axis)),
            Cell(percent(row["success"])),
            Cell(f"{row['queries']:,.4g}"),
            Cell(percent(survival[row["model"]])),
            Cell(", ".join(row["flags"]) or NONE),
        ]
        table.rows.append((row["model"], cells))
    return table


def worst_case_table(results: RunAnalysis) -> Table | None:
    """Return the accuracy over the worst of the run's attacks; None where it has only one."""
    if len(results.kinds) < 2:
        return None
    models = results.run.models
    table = Table(["attacks", *models])
    for _, rows in results.worst_case.groupby(["norm", "level"], sort=False, dropna=False):
        first = rows.iloc[0]
        norm, level = first["norm"], first["level"]
        name = "all, each at its last strength" if norm == "any" else f"{norm} at {format_level(level, norm)}"
        by_model = {row["model"]: row for row in rows.to_dict("records")}
        cells = [
            Cell(percent(row["accuracy"]), span(row["ci_low"], row["ci_high"]))
            if (row := by_model.get(model))
            else Cell(NONE)
            for model in models
        ]
        table.rows.append((f"{name} ({first['attacks']})", cells))
    return table if table.rows else None


def gradient_notes(analysis: Analysis) -> list[str]:
    """Return how the most compressed model does under a gradient attack, against the published result.

    Band-limited convolutions return true gradients, and the published ones do not help against such
    attacks (paper section 4.3): fft85 minus fp32 is negative there. Empty for other attacks, and with
    a source, where no attack uses the model's own gradients.
    """
    run, spec = analysis.run, ATTACKS.get(analysis.kind)
    if run.config.get("source") is not None:
        return []
    effective = {model: float(card["effective_compression"]) for model, card in run.cards.items()}
    limited = [model for model in run.models if effective[model] > 0]
    if spec is None or not spec.gradients or BASELINE not in run.models or not limited:
        return []
    most = max(limited, key=lambda model: effective[model])
    ours, theirs = analysis.outcomes[most], analysis.outcomes[BASELINE]
    levels = [level for level in ours if level > 0 and level in theirs]
    if not levels:
        return []
    difference = float(np.mean([ours[level].mean() - theirs[level].mean() for level in levels]))
    start = f"Under this gradient attack {most} minus {BASELINE} is {points(difference)} points on average"
    if round(difference, 3) <= 0:
        return [f"{start}: as published, band limits do not help against gradient attacks."]
    return [
        f"{start}, while the published difference is negative. Before trusting this, rule out masked "
        "gradients, too few steps, and chance on few images."
    ]
