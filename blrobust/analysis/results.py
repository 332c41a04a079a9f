"""What a run found: one row per cell, one per model, and the tests between models.

Everything here reads a ``Run`` and computes, of all its kinds or of ``only`` one; nothing is measured
again. Of an unfinished run the draws that every cell has are used, at least the first, and levels not
reached are left out; a model without all its levels has no summary numbers.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blrobust import atomic_write
from blrobust.analysis import statistics
from blrobust.analysis.statistics import Bools, Estimate, Floats
from blrobust.runs.run import RESULTS, Run

BASELINE = "fp32"
SIGNIFICANT = 1 - statistics.CONFIDENCE

# results.csv, column by column; docs/results.md says what each one holds.
COLUMNS = (
    *("model", "dataset", "kind", "space", "level", "draws", "n", "effective_n"),
    *("accuracy", "ci_low", "ci_high", "always_correct", "rejected", "survives_rounding"),
    *("nominal_compression", "effective_compression", "forwards", "backwards", "seconds"),
)
SUMMARY = (
    *("kind", "model", "nominal_compression", "effective_compression"),
    *("clean", "clean_low", "clean_high", "mean", "mean_low", "mean_high"),
    *("half_level", "half_level_low", "half_level_high", "better", "worse"),
)
REJECTED = ("NOT_FINITE", "OUT_OF_BOUNDS", "BEYOND_EPSILON", "RAISED")  # failed checks, robust
PAIRED = ("kind", "model", "baseline", "level", "draws", "difference", "p", "p_holm")


def table(run: Run, only: str | None = None) -> pd.DataFrame:
    """One row per (model, kind, level), as docs/results.md documents; shares are fractions."""
    records = []
    for kind in asked_kinds(run, only):
        for model in run.models:
            card = cards(run)[model]
            for level, correct in outcomes(run, model, kind).items():
                accuracy = statistics.accuracy(correct)
                records.append(
                    {
                        "model": model,
                        "dataset": run.provenance["dataset"]["name"],
                        "kind": kind,
                        "space": run.config["space"],
                        "level": level,
                        "draws": len(correct),
                        "n": correct.shape[1],
                        "effective_n": statistics.effective_n(correct),
                        "accuracy": accuracy.value,
                        "ci_low": accuracy.low,
                        "ci_high": accuracy.high,
                        "always_correct": float(correct.all(axis=0).mean()),
                        "rejected": sum(map(reasons(run, model, kind, level).__getitem__, REJECTED)),
                        "survives_rounding": _survives_rounding(run, model, kind, level),
                        "nominal_compression": card["nominal_compression"],
                        "effective_compression": card["effective_compression"],
                        "forwards": run.forwards(model, kind, level),
                        "backwards": run.backwards(model, kind, level),
                        "seconds": run.seconds(model, kind, level),
                    }
                )
    return pd.DataFrame.from_records(records).reindex(columns=list(COLUMNS))


def summary(run: Run, only: str | None = None) -> pd.DataFrame:
    """One row per (kind, model): clean and mean accuracy, level at 50 %, levels above the baseline.

    ``half_level`` is ``inf`` where accuracy never falls to 50 %. ``better`` and ``worse`` are the
    shares of levels at which the model differs from ``fp32`` significantly (Holm over levels).
    Ends of 95 % intervals are in ``_low`` and ``_high``: Wilson for one level, else bootstrap.
    """
    tests = paired(run, only)
    draws = measured_draws(run)
    records = []
    for kind in asked_kinds(run, only):
        levels = np.asarray(run.levels(kind), dtype=np.float64)
        cells = {model: outcomes(run, model, kind) for model in run.models}
        # Right draws (levels, n) of the models that have all their levels.
        right = {
            model: np.stack([correct.sum(axis=0) for correct in by_level.values()])
            for model, by_level in cells.items()
            if len(by_level) == len(levels)
        }
        resampled = _resampled(right)
        for model in run.models:
            card = cards(run)[model]
            record: dict[str, Any] = {
                "kind": kind,
                "model": model,
                "nominal_compression": card["nominal_compression"],
                "effective_compression": card["effective_compression"],
            }
            if levels[0] in cells[model]:
                record |= _columns("clean", statistics.accuracy(cells[model][levels[0]]))
            if model in right:
                curve = right[model].mean(axis=1) / draws  # (levels,)
                curves = resampled[model] / draws  # (RESAMPLES, levels)
                mean = statistics.interval(float(curve.mean()), curves.mean(axis=1))
                half = statistics.interval(
                    float(statistics.crossing_level(levels, curve)),
                    statistics.crossing_level(levels, curves),
                )
                record |= _columns("mean", mean) | _columns("half_level", half)
            rows = tests[(tests.kind == kind) & (tests.model == model)]
            if len(rows) == len(levels) and rows.baseline.iloc[0] == BASELINE:
                significant = rows.p_holm < SIGNIFICANT
                record["better"] = float((significant & (rows.difference > 0)).mean())
                record["worse"] = float((significant & (rows.difference < 0)).mean())
            records.append(record)
    return pd.DataFrame.from_records(records).reindex(columns=list(SUMMARY))


def paired(run: Run, only: str | None = None) -> pd.DataFrame:
    """Each model against ``fp32`` (else the first model) on the same images, level by level.

    McNemar's test for one draw, the sign-flip test over images for several; ``p_holm`` is adjusted
    over the levels of one pair.
    """
    against = baseline(run)
    frames = []
    for kind in asked_kinds(run, only):
        theirs = outcomes(run, against, kind)
        for model in run.models:
            ours = outcomes(run, model, kind) if model != against else {}
            shared = [level for level in ours if level in theirs]
            records = [_compare(ours[level], theirs[level]) for level in shared]
            if records:
                frame = pd.DataFrame.from_records(records)
                frame["p_holm"] = statistics.holm(frame.p.to_numpy())
                frames.append(frame.assign(kind=kind, model=model, baseline=against, level=shared))
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return whole.reindex(columns=list(PAIRED))


def across_models(run: Run, only: str | None = None) -> pd.DataFrame:
    """Cochran's Q per level over more than two models, Holm over the levels.

    It takes one yes or no per image and model, so it looks at the first draw.
    """
    frames = []
    for kind in asked_kinds(run, only):
        cells = [outcomes(run, model, kind) for model in run.models]
        shared = [level for level in run.levels(kind) if all(level in cell for cell in cells)]
        if len(cells) > 2 and shared:
            first = [np.stack([cell[level][0] for cell in cells]) for level in shared]
            p = np.array([statistics.cochrans_q(correct) for correct in first])
            frame = pd.DataFrame({"level": shared, "p": p, "p_holm": statistics.holm(p)})
            frames.append(frame.assign(kind=kind))
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return whole.reindex(columns=["kind", "level", "p", "p_holm"])


def asked_kinds(run: Run, only: str | None) -> list[str]:
    """The kinds asked about: one, or all of the run."""
    return run.kinds if only is None else [only]


def write_csv(run: Run) -> Path:
    """Write ``table(run)`` to ``results.csv`` in the run's folder, whole or not at all."""
    path = Path(run.path) / RESULTS
    atomic_write.write_text(path, table(run).to_csv(index=False, lineterminator="\n"))
    return path


def cards(run: Run) -> dict[str, dict[str, Any]]:
    """The models' cards by label."""
    return {card["label"]: card for card in run.provenance["models"]}


def baseline(run: Run) -> str:
    """The model that the others are tested against: ``fp32``, else the first."""
    return BASELINE if BASELINE in run.models else run.models[0]


def measured_draws(run: Run) -> int:
    """Draws that every cell of the run has; 1 where not even the first is complete."""
    cells = len(run.models) * sum(len(run.levels(kind)) for kind in run.kinds)
    counts = Counter(draw for _, _, _, draw in run.done())
    return max(1, sum(count == cells for count in counts.values()))


def outcomes(run: Run, model: str, kind: str) -> dict[float, Bools]:
    """Outcomes (draws, n) of a model by level, for the levels that are measured."""
    draws = measured_draws(run)
    cells = {level: run.correct(model, kind, level)[:draws] for level in run.levels(kind)}
    return {level: correct for level, correct in cells.items() if len(correct)}


def reasons(run: Run, model: str, kind: str, level: float) -> Counter[str]:
    """What became of the samples of a measured level, over its draws, by ``Status`` name; empty for noise."""
    codes = _checks(run, model, kind, level, "reason")
    if not len(codes):
        return Counter()
    from blrobust.attacks.status import Status

    found, counts = np.unique(codes, return_counts=True)
    return Counter({Status(code).name: int(count) for code, count in zip(found, counts, strict=True)})


def _survives_rounding(run: Run, model: str, kind: str, level: float) -> float:
    """Share of the adversarial samples that stay so as images of 8 bits; NaN where there are none."""
    adversarial = int(_checks(run, model, kind, level, "success").sum())
    survivors = int(_checks(run, model, kind, level, "rounded").sum())
    return survivors / adversarial if adversarial else np.nan


def _checks(run: Run, model: str, kind: str, level: float, name: str) -> NDArray[Any]:
    """An attack's outcome of that name (draws * n,) for the draws that count; empty for noise."""
    if name not in run.outcome(model, kind, level, 0):
        return np.empty(0, np.uint8)
    draws = range(measured_draws(run))
    return np.concatenate([run.outcome(model, kind, level, draw)[name] for draw in draws])


def _resampled(right: dict[str, NDArray[np.int64]]) -> dict[str, Floats]:
    """Bootstrap means (RESAMPLES, levels) by model, all from the same resamples of the images."""
    if not right:
        return {}
    means = statistics.resampled_means(np.concatenate(list(right.values())))
    return dict(zip(right, np.split(means, len(right), axis=1), strict=True))


def _compare(ours: Bools, theirs: Bools) -> dict[str, float]:
    """Difference in accuracy over outcomes (draws, n), and its p-value."""
    if len(ours) == 1:
        p = float(statistics.mcnemar(ours[0], theirs[0]))
    else:
        p = statistics.sign_flip(ours.sum(axis=0) - theirs.sum(axis=0))
    return {"draws": len(ours), "difference": float(ours.mean() - theirs.mean()), "p": p}


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
