"""What a run under attack found beyond accuracy: success, smallest perturbations, worst cases, flags."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blrobust.analysis import results, statistics
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.runs.run import Run

MODELS = ("kind", "model", "clean", "accuracy", "median", "success", "queries", "flags")
BLACK_BOX = "black-box beats white-box"
SIGNIFICANT = 0.05


def models(run: Run, only: str | None = None) -> pd.DataFrame:
    """One row per (kind, model) that has all its levels; of one kind, or of all.

    ``clean`` and ``accuracy`` (by level) are over all images; ``median`` is the smallest strength
    that breaks half of the images classified correctly without it (the distance found by attacks
    that minimise it, else a level of the grid), ``inf`` where fewer are ever broken; ``success`` is
    the share of them broken at the last level. Both leave out images whose label is the class that a
    targeted attack aims at: nothing can be sought there. ``queries`` is the forward and backward
    passes an image of a run at the last level, ``flags`` what casts doubt on all this, with the inputs
    of the last level that failed a check, or for which the attack failed.
    """
    from blrobust.attacks.status import Status

    doubts = flags(run)
    records = []
    for kind in results.asked_kinds(run, only):
        levels = run.levels(kind)
        for model in run.models:
            correct = results.outcomes(run, model, kind)
            if len(correct) < len(levels):
                continue
            clean = correct[levels[0]][0]
            last = run.outcome(model, kind, levels[-1], 0)
            passes = [last[name].sum() for name in ("forwards", "backwards") if name in last]
            sought = clean & (last.get("reason", 0) != Status.IS_TARGET)
            broken = sought & ~correct[levels[-1]][0]
            smallest = np.sort(_smallest(run, model, kind)[sought])
            why = results.reasons(run, model, kind, levels[-1])
            rejected = sum(map(why.__getitem__, results.REJECTED))
            records.append(
                {
                    "kind": kind,
                    "model": model,
                    "clean": float(clean.mean()),
                    "accuracy": {level: float(right.mean()) for level, right in correct.items()},
                    # Not numpy's median: of an even number it lies between two strengths.
                    "median": float(smallest[(len(smallest) - 1) // 2]) if sought.any() else np.nan,
                    "success": float(broken.sum() / sought.sum()) if sought.any() else np.nan,
                    "queries": float(sum(passes) / len(clean)),
                    "flags": doubts[model] + ([f"{rejected:,} rejected"] if rejected else []),
                }
            )
    return pd.DataFrame.from_records(records).reindex(columns=list(MODELS))


def worst_case(run: Run) -> pd.DataFrame:
    """Accuracy over the worst of all attacks of a norm, level by level, and of them all.

    One row per (norm, level, model) with two attacks or more: an image counts as right where every
    attack leaves it so, at this level or a lower one, whose inputs lie within this one too. Without a
    norm only attacks whose levels count the same are together, at the levels that they share. The norm
    "any" takes each attack at its last level.
    """
    cells_of: dict[str, list[tuple[str, float]]] = {}
    for kind in run.kinds:
        norm = kind
        if kind in ATTACKS:
            strength = ATTACKS[kind].strength
            norm = strength.axis if strength.norm == "none" else strength.norm
        cells_of.setdefault(norm, []).extend((kind, level) for level in run.levels(kind)[1:])
    groups: dict[tuple[str, float], list[tuple[str, float]]] = {}
    for norm, cells in cells_of.items():
        nested = any(kind in ATTACKS and ATTACKS[kind].norm == norm for kind, _ in cells)
        for level in sorted({level for _, level in cells}):
            groups[norm, level] = [(k, at) for k, at in cells if at == level or (nested and at < level)]
    groups["any", np.nan] = [(kind, run.levels(kind)[-1]) for kind in run.kinds]
    records = []
    for (norm, level), cells in groups.items():
        count = len({kind for kind, _ in cells})
        for model in run.models if count > 1 else []:
            answers = [run.correct(model, kind, at) for kind, at in cells]
            if all(len(answer) for answer in answers):
                worst = np.logical_and.reduce([answer.all(0) for answer in answers])
                estimate = statistics.accuracy(worst[None])
                records.append(
                    {
                        "norm": norm,
                        "level": level,
                        "model": model,
                        "attacks": count,
                        "accuracy": estimate.value,
                        "ci_low": estimate.low,
                        "ci_high": estimate.high,
                    }
                )
    columns = ["norm", "level", "model", "attacks", "accuracy", "ci_low", "ci_high"]
    return pd.DataFrame.from_records(records).reindex(columns=columns)


def flags(run: Run) -> dict[str, list[str]]:
    """What casts doubt on each model: asked of it before the run, and what the attacks show together."""
    found = {model: list(run.provenance.get("flags", {}).get(model, [])) for model in run.models}
    for model, doubts in found.items():
        if _black_box_wins(run, model):
            doubts.append(BLACK_BOX)
    return found


def _black_box_wins(run: Run, model: str) -> bool:
    """Whether attacks without gradients break more images than all with them, at one norm and level.

    Exact McNemar tests, Holm over all norms and levels where the two meet: more than chance would
    give where they are alike. With a source no attack saw the model's own gradients, so there is no
    white box to beat.
    """
    if run.config.get("source") is not None:
        return False
    right: dict[tuple[str, float], dict[bool, NDArray[np.bool_]]] = {}
    for kind in run.kinds:
        spec = ATTACKS.get(kind)
        if spec is None or not spec.is_search:
            continue
        for level in run.levels(kind)[1:]:
            for correct in run.correct(model, kind, level)[:1]:
                sides: dict[bool, Any] = right.setdefault((spec.norm, level), {})
                side = spec.gradients
                sides[side] = sides[side] & correct if side in sides else correct
    met = [(sides[False], sides[True]) for sides in right.values() if len(sides) == 2]
    adjusted = statistics.holm(np.array([float(statistics.mcnemar(*pair)) for pair in met]))
    return any(
        black.sum() < white.sum() and p < SIGNIFICANT for (black, white), p in zip(met, adjusted, strict=True)
    )


def _smallest(run: Run, model: str, kind: str) -> NDArray[np.float64]:
    """The smallest strength found to break each image, float64 (n,); infinity where none does."""
    levels = run.levels(kind)
    last = run.outcome(model, kind, levels[-1], 0)
    if "minimal" in last:
        return last["minimal"].astype(np.float64)
    smallest = np.full(len(run.labels), np.inf)
    for level in reversed(levels[1:]):
        smallest[~run.correct(model, kind, level)[0]] = level
    return smallest
