"""What a report adds for attacks: success, smallest strengths, passes, flags, worst cases, the sign."""

from typing import TYPE_CHECKING

import numpy as np

from blrobust.analysis import results
from blrobust.perturbations.levels import format_level
from blrobust.reports.axes import Axis
from blrobust.reports.tables import NONE, Cell, Table, level_at, percent, points, span

if TYPE_CHECKING:
    from blrobust.runs.run import Run


def attack_table(run: "Run", kind: str, axis: Axis) -> Table | None:
    """Return a row per model of what the attack took; None for a sweep of noise, which is no attack."""
    if run.config["command"] != "attack":
        return None
    from blrobust.analysis import attack_results

    rounded = _by_model(run, kind)
    table = Table(["model", f"median {axis.name}", "success", "passes an image", "survive 8 bits", "flags"])
    for row in attack_results.models(run, kind).to_dict("records"):
        cells = [
            Cell(level_at(row["median"], run.levels(kind), axis)),
            Cell(percent(row["success"])),
            Cell(f"{row['queries']:,.4g}"),
            Cell(percent(rounded[row["model"]])),
            Cell(", ".join(row["flags"]) or NONE),
        ]
        table.rows.append((row["model"], cells))
    return table


def worst_case_table(run: "Run") -> Table | None:
    """Return the accuracy over the worst of the run's attacks, None where it has but one."""
    if len(run.kinds) < 2:
        return None
    from blrobust.analysis import attack_results

    frame = attack_results.worst_case(run)
    table = Table(["attacks", *run.models])
    for _, rows in frame.groupby(["norm", "level"], sort=False, dropna=False):
        first = rows.iloc[0]
        norm, level = first["norm"], first["level"]
        what = "all, each at its last strength" if norm == "any" else f"{norm} at {format_level(level, norm)}"
        by_model = {row["model"]: row for row in rows.to_dict("records")}
        cells = [
            Cell(percent(row["accuracy"]), span(row["ci_low"], row["ci_high"]))
            if (row := by_model.get(model))
            else Cell(NONE)
            for model in run.models
        ]
        table.rows.append((f"{what} ({first['attacks']})", cells))
    return table if table.rows else None


def gradient_note(run: "Run", kind: str) -> str | None:
    """Return what an attack by gradients says of the most compressed model, against what was published.

    Band-limited convolutions return true gradients, and the published ones do not help against such
    attacks (paper section 4.3): fft85 minus fp32 is negative there. With a source no attack saw the
    model's own gradients, and there is nothing to say.
    """
    if run.config.get("source") is not None:
        return None
    from blrobust.attacks.catalogue.table import ATTACKS

    cards = results.cards(run)
    limited = [model for model in run.models if cards[model]["effective_compression"] > 0]
    entry = ATTACKS.get(kind)
    baseline = results.BASELINE
    if entry is None or not entry.gradients or baseline not in run.models or not limited:
        return None
    most = max(limited, key=lambda model: float(cards[model]["effective_compression"]))
    ours, theirs = (results.outcomes(run, model, kind) for model in (most, baseline))
    levels = [level for level in ours if level > 0 and level in theirs]
    if not levels:
        return None
    difference = float(np.mean([ours[level].mean() - theirs[level].mean() for level in levels]))
    said = f"Under this attack by gradients {most} minus {baseline} is {points(difference)} points on average"
    if round(difference, 3) <= 0:
        return f"{said}: as published, band limits do not help against gradients."
    return (
        f"{said}, where the published difference is negative: a surprise. Before it is believed, gradients "
        "that hide, too few steps and chance on so few images must be ruled out."
    )


def _by_model(run: "Run", kind: str) -> dict[str, float]:
    """The share of the last level's adversarial inputs that survive rounding, by model."""
    frame = results.table(run, kind)
    last = frame[frame.level == run.levels(kind)[-1]]
    return dict(zip(last.model, last.survives_rounding, strict=True))
