"""Results of attacks beyond accuracy: success, smallest perturbations, worst cases, flags."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blrobust.analysis import statistics
from blrobust.analysis.analysis import Analysis
from blrobust.analysis.flags import member_flag, rejected_flag
from blrobust.analysis.groups import Group
from blrobust.analysis.level_outcome import LevelOutcome, over_seeds
from blrobust.analysis.statistics import Bools, Floats
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.status import NO_GRADIENTS, Status
from blrobust.runs.configuration import AttackGrid
from blrobust.runs.packed_arrays import Outcomes
from blrobust.runs.run import Run

MODELS = ("kind", "model", "clean", "accuracy", "median", "success", "queries", "flags")
WORST_CASE = ("norm", "level", "model", "attacks", "accuracy", "ci_low", "ci_high")
PASSES = ("forwards", "backwards")
BLACK_BOX = "black-box beats white-box"

Kinds = Mapping[str, Analysis]


def by_model(kinds: Kinds, flags: Mapping[str, list[str]]) -> pd.DataFrame:
    """Return one row for each attack (`kind`) and each model that has results at all levels.

    - `clean`: the accuracy without the attack, over all images.
    - `accuracy`: the accuracy by level, over all images.
    - `median`: the smallest strength such that half of the images classified correctly without the attack are
      broken (misclassified) at this strength or at a lower one, because a larger budget includes a smaller
      one. If the attack searches for the smallest perturbation, the median is a distance, otherwise a
      measured level. If fewer than half of the images are broken at all levels together, it is `inf`.
    - `success`: the share, among the images classified correctly without the attack, of those that are broken
      at the last level itself. `median` and `success` leave out images whose label is the class that a
      targeted attack aims at.
    - `queries`: forward and backward passes per image and draw at the last level.
    - `flags`: reasons to doubt these numbers, among them the flags of the model in `flags`, the number of
      predictions without finite logits, the member of an ensemble that ran alone because the model has no
      gradients, and the number of inputs of the last level that failed a check or raised an error.

    With several draws or training seeds, an image counts once for each seed and draw.
    """
    records = []
    for kind, analysis in kinds.items():
        first, last = analysis.levels[0], analysis.levels[-1]
        for model in analysis.complete:
            correct = {level: outcome.pooled for level, outcome in analysis.outcomes[model].items()}
            clean = correct[first]  # (seeds * draws, n)
            outcomes = [
                analysis.run.outcome(label, kind, last, draw)
                for label in analysis.groups[model].members
                for draw in range(analysis.draws)
            ]
            passes = [found[name].sum() for found in outcomes for name in PASSES if name in found]
            attacked = [found.get("reason", np.zeros(1)) != Status.IS_TARGET for found in outcomes]
            eligible = clean & np.stack(attacked)
            broken = eligible & ~correct[last]
            smallest = np.sort(_smallest(correct, outcomes)[eligible])
            further = _member_alone(analysis.run, kind, analysis.flags[model])
            further += rejected_flag(analysis.checks[model, last].rejected)
            records.append(
                {
                    "kind": kind,
                    "model": model,
                    "clean": float(clean.mean()),
                    "accuracy": {level: float(right.mean()) for level, right in correct.items()},
                    # Not numpy's median: of an even number it lies between two strengths.
                    "median": float(smallest[(len(smallest) - 1) // 2]) if eligible.any() else np.nan,
                    "success": float(broken.sum() / eligible.sum()) if eligible.any() else np.nan,
                    "queries": float(sum(passes) / clean.size),
                    "flags": [*analysis.flags[model], *flags[model], *further],
                }
            )
    return pd.DataFrame.from_records(records).reindex(columns=list(MODELS))


def _member_alone(run: Run, kind: str, flags: list[str]) -> list[str]:
    """Return a list with a flag if only one attack of an ensemble ran because the model has no gradients.

    Otherwise the list is empty. `flags` are the other flags of the model.
    """
    missing = NO_GRADIENTS if run.sweep.origin is None else f"source: {NO_GRADIENTS}"
    if missing not in flags:
        return []
    grid = run.sweep.kinds[kind]
    if not isinstance(grid, AttackGrid):
        return []
    return member_flag(kind, parameters=grid.parameters, revision=grid.revision)


def worst_case(kinds: Kinds, *, least: int = 2) -> pd.DataFrame:
    """Return the worst-case accuracy under several attacks, for each norm and level, and under all attacks.

    An image counts as correct at a level if it is classified correctly in every draw of every attack at every
    level from 0 (no perturbation) up to this one, because a larger budget includes a smaller one. There is
    one row for each level and model of each norm with at least `least` attacks. Only levels at which all
    attacks of the norm were run have a row, because accuracy without one of the attacks would look too good.
    Of a model with several seeds, each seed has its own worst case, and the accuracy is the mean over them.
    Attacks without a norm are combined only if their levels have the same unit. The norm "any" combines all
    attacks, each up to its last level.
    """
    cells_of: dict[str, list[tuple[Analysis, float]]] = {}
    for kind, analysis in kinds.items():
        norm = kind
        if kind in ATTACKS:
            strength = ATTACKS[kind].strength
            norm = strength.axis if strength.norm == "none" else strength.norm
        cells_of.setdefault(norm, []).extend((analysis, level) for level in analysis.levels)
    groups: dict[tuple[str, float], list[tuple[Analysis, float]]] = {}
    for norm, cells in cells_of.items():
        shared = set.intersection(*({at for a, at in cells if a is b} for b, _ in cells))
        for level in sorted(shared - {0.0}):
            groups[norm, level] = [(a, at) for a, at in cells if at <= level]
    groups["any", np.nan] = [(analysis, level) for analysis in kinds.values() for level in analysis.levels]
    records = []
    for (norm, level), cells in groups.items():
        count = len({analysis.kind for analysis, _ in cells})
        for name, group in cells[0][0].groups.items() if count >= least else []:
            outcomes = [analysis.outcomes[name].get(at) for analysis, at in cells]
            found = [outcome.correct for outcome in outcomes if outcome is not None]
            if len(found) == len(outcomes):
                seeds = zip(*found, strict=True)  # for each seed, its predictions in every cell
                right = [np.logical_and.reduce([each.all(axis=0) for each in seed]) for seed in seeds]
                records.append((norm, level, name, count, *_accuracy(right, group)))
    return pd.DataFrame.from_records(records, columns=list(WORST_CASE))


def _accuracy(right: list[NDArray[np.bool_]], group: Group) -> statistics.Estimate:
    """Return the accuracy of a model from which images are right under each of its seeds, bool (n,) each."""

    def resampled() -> Floats:
        means = statistics.resampled_means(np.stack(right).astype(np.int64))
        return over_seeds(list(means.T), key=group.key)

    return LevelOutcome([seed[None] for seed in right], resampled).accuracy


def flags(run: Run, groups: Mapping[str, Group], kinds: Kinds) -> dict[str, list[str]]:
    """Return for each model a list with the flag "black-box beats white-box", or an empty list.

    The flag is set if attacks without gradients break more images than attacks with gradients, under any of
    the model's training seeds.
    """
    # With a source no attack uses the model's own gradients, so there is no white box to beat.
    has_white_box = run.sweep.origin is None
    return {
        name: [BLACK_BOX]
        if has_white_box and any(_black_box_wins(kinds, label) for label in group.members)
        else []
        for name, group in groups.items()
    }


def _black_box_wins(kinds: Kinds, label: str) -> bool:
    """Return whether black-box attacks break more images than gradient attacks at any norm and level.

    `label` is that of a trained model.
    Exact McNemar tests on the first draw decide, with Holm's correction over all norms and levels that have
    both kinds of attack.
    """
    right: dict[tuple[str, float], dict[bool, NDArray[np.bool_]]] = {}
    for kind, analysis in kinds.items():
        spec = ATTACKS.get(kind)
        if spec is None or not spec.is_search:
            continue
        for level in analysis.levels[1:]:
            for correct in analysis.trained.correct[label].get(level, [])[:1]:
                sides: dict[bool, Any] = right.setdefault((spec.norm, level), {})
                side = spec.gradients
                sides[side] = sides[side] & correct if side in sides else correct
    pairs = [(sides[False], sides[True]) for sides in right.values() if len(sides) == 2]
    adjusted = statistics.holm(np.array([float(statistics.mcnemar(*pair)) for pair in pairs]))
    return any(
        black.sum() < white.sum() and p < statistics.SIGNIFICANCE
        for (black, white), p in zip(pairs, adjusted, strict=True)
    )


def _smallest(correct: Mapping[float, Bools], last: list[Outcomes]) -> Floats:
    """Return the smallest strength that breaks each image, float64 (rows, n); infinity if no strength does.

    `correct` is whether predictions are correct, bool (rows, n), by level, with a row for each seed and draw,
    and `last` are the outcomes of the rows at the last level.
    """
    if all("minimal" in found for found in last):
        return np.stack([found["minimal"].astype(np.float64) for found in last])
    _, *levels = correct
    smallest = np.full(next(iter(correct.values())).shape, np.inf)
    for level in reversed(levels):
        smallest[~correct[level]] = level
    return smallest
