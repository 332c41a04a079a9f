"""The parts of a report that only attacks have: summary table, worst cases, comparison with the paper."""

from blrobust.analysis import controls
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.comparison import FP32, Verdict
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.perturbations.levels import distinct_digits, format_level
from blrobust.reports.axes import LENGTHS, Axis
from blrobust.reports.number_text import NONE, level_at, percent, span
from blrobust.reports.sentence_parts import NO_LEVEL, levels_of, where
from blrobust.reports.tables import Cell, Table

ALL_ATTACKS = "all, each up to its last strength"


def attack_table(results: RunAnalysis, kind: str, axis: Axis) -> Table | None:
    """Return a table with the cost and the success of the attack on each model; None for a sweep of noise."""
    if results.run.config.command != "attack":
        return None
    analysis = results.kinds[kind]
    table = Table(["model", f"median {axis.name}", "success", "passes per image", "survive 8 bits", "flags"])
    for row in results.attacks[results.attacks.kind == kind].to_dict("records"):
        cells = [
            Cell(level_at(row["median"], analysis.levels, axis)),
            Cell(percent(row["success"])),
            Cell(f"{row['queries']:,.4g}"),
            Cell(percent(analysis.checks[row["model"], analysis.levels[-1]].survival)),
            Cell(", ".join(row["flags"]) or NONE),
        ]
        table.rows.append((row["model"], cells))
    return table


def worst_case_table(results: RunAnalysis) -> Table | None:
    """Return a table of the worst-case accuracy: the share of images that no attack of a norm breaks.

    There is a row for each norm and level, and for all attacks. The result is None if the run has only one
    attack, or no two attacks with a common level.
    """
    if len(results.kinds) < 2:
        return None
    models = list(results.groups)
    table = Table(["attacks", *models])
    digits = distinct_digits(results.worst_case.level.dropna())
    for _, rows in results.worst_case.groupby(["norm", "level"], sort=False, dropna=False):
        first = rows.iloc[0]
        norm, level = first["norm"], first["level"]
        name = ALL_ATTACKS if norm == "any" else _budget(norm, level, results.run.sweep.space, digits)
        by_model = {row["model"]: row for row in rows.to_dict("records")}
        cells = [
            Cell(percent(row["accuracy"]), span(row["ci_low"], row["ci_high"]))
            if (row := by_model.get(model))
            else Cell(NONE)
            for model in models
        ]
        table.rows.append((f"{name} ({first['attacks']})", cells))
    return table if table.rows else None


def _budget(norm: str, level: float, space: str, digits: int) -> str:
    """Return a norm and the largest level of a budget, such as "Linf up to 8/255"."""
    unit = " in normalised units" if space != "pixel" and norm in LENGTHS else ""
    text = format_level(level, norm if space == "pixel" else None, digits=digits)
    return f"{norm} up to {text}{unit}"


def gradient_notes(analysis: Analysis, axis: Axis) -> list[str]:
    """Return sentences that compare band-limited models with fp32 under an attack that uses gradients.

    Band-limited convolutions have true gradients, and according to the paper (section 4.3) they do not help
    against such attacks. A gain or a loss is a difference that the paired test against fp32 finds, at a level
    at which one of the two models is better than a guess. The list is empty for other attacks, and if the
    test finds no difference. It is also empty if the run has a source model, because the attacks then use the
    gradients of the source and not those of the measured models.
    """
    spec, limited = ATTACKS.get(analysis.kind), controls.band_limited(analysis)
    if analysis.run.sweep.origin is not None or spec is None or not spec.gradients:
        return []
    if FP32 not in analysis.complete or not limited:
        return []
    found: dict[Verdict, dict[str, str]] = {Verdict.BETTER: {}, Verdict.WORSE: {}}
    for model in limited:
        frame = analysis.compare(model, FP32)
        attacked = frame[(frame.level > 0) & ~frame.at_floor.astype(bool)]
        for verdict, parts in found.items():
            if levels := list(attacked.level[attacked.verdict == verdict]):
                parts[model] = f"{model} at {where(levels, analysis.levels, axis)}"
    better, worse = found.values()
    gains, losses = "; ".join(better.values()), "; ".join(worse.values())
    rest = ", ".join(model for model in limited if model not in better and model not in worse)
    if not gains and not losses:
        return []
    if not gains and rest:
        return [
            f"Where accuracy is better than a guess, these band-limited models are worse than {FP32} under "
            f"this gradient attack, as published: {losses}. No difference is found there for {rest}."
        ]
    if not gains:
        return [
            "As published, band limits do not help against this gradient attack: where accuracy is better "
            f"than a guess, every band-limited model is worse than {FP32} at some strength and better at "
            f"none: {losses}."
        ]
    end = f" Worse, as published: {losses}." if losses else ""
    end += f" No difference found: {rest}." if rest else ""
    control = controls.best_control(analysis)
    beaten = [
        f"{model} at {lost}"
        for model in (limited if control not in (None, FP32) else [])
        if (lost := levels_of(analysis, model, str(control), Verdict.WORSE, axis)) != NO_LEVEL
    ]
    if beaten:
        end += f" But they are worse than {control}, without band limits: {'; '.join(beaten)}."
    return [
        f"Unlike the published result, band limits are better than {FP32} under this gradient attack: "
        f"{gains}.{end} Before trusting this, rule out masked gradients and too few steps."
    ]
