"""A plan that fits into a given time: what is measured, and what is left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from blrobust.experiments.step import Step, base_of, models_of, seed_of

FEWEST = 100  # images; with fewer, intervals are wide, and a block of a CPU is not full

Seconds = Callable[[Step], float]  # predicted for a step


@dataclass(frozen=True)
class Plan:
    """Steps to take, lines that name what is left out, and the predicted seconds of each step by its name."""

    steps: tuple[Step, ...]
    left_out: tuple[str, ...]
    seconds: Mapping[str, float]


def fit(steps: Sequence[Step], *, budget: float, seconds: Seconds, essential: Sequence[str]) -> Plan:
    """Return the plan of at most `budget` predicted seconds, if there is one.

    First training seeds are left out, then images, then models, the last ones of the steps first and never
    those called `essential`. Steps that do not fit even with the fewest images and the essential models are
    left out whole, the longest ones first. A training uses all images.
    """
    left: list[str] = []
    fewer_steps, fewer_models = (
        partial(shorten, essential=essential) for shorten in (_fewer_steps, _fewer_models)
    )
    for shorten in (_fewer_seeds, fewer_steps, _fewer_images, fewer_models):
        if sum(map(seconds, steps)) > budget:
            steps, lines = shorten(list(steps), budget, seconds)
            left += lines
    return Plan(tuple(steps), tuple(left), {step.name: seconds(step) for step in steps})


def _fewer_seeds(steps: list[Step], budget: float, seconds: Seconds) -> tuple[list[Step], list[str]]:
    count = whole = 1 + max((seed_of(name) for step in steps for name in step.models), default=0)
    while count > 1 and sum(map(seconds, steps)) > budget:
        count -= 1
        steps = [_only(step, [name for name in step.models if seed_of(name) < count]) for step in steps]
    return steps, [f"seeds: {count} of {whole}"] if count < whole else []


def _fewer_steps(
    steps: list[Step], budget: float, seconds: Seconds, *, essential: Sequence[str]
) -> tuple[list[Step], list[str]]:
    shortest = {step.name: seconds(_smallest(step, essential)) for step in steps}
    measured = [step.name for step in reversed(steps) if step.stage != "train"]
    lines = []
    while len(measured) > 1 and sum(shortest.values()) > budget:
        longest = max(measured, key=shortest.__getitem__)
        measured.remove(longest)
        lines.append(f"all of {longest}, at least {shortest.pop(longest):,.0f} s")
    return [step for step in steps if step.name in shortest], lines


def _fewer_images(steps: list[Step], budget: float, seconds: Seconds) -> tuple[list[Step], list[str]]:
    before = {step.name: step.images for step in steps}
    while sum(map(seconds, steps)) > budget:
        shrinkable = [step for step in steps if step.stage != "train" and step.images > FEWEST]
        if not shrinkable:
            break
        longest = max(shrinkable, key=seconds)
        halved = replace(longest, images=max(FEWEST, longest.images // 2))
        steps = [halved if step is longest else step for step in steps]
    fewer = [step for step in steps if step.images < before[step.name]]
    sizes = [f"{step.name} {step.images:,} of {before[step.name]:,}" for step in fewer]
    return steps, [f"images: {', '.join(sizes)}"] if sizes else []


def _smallest(step: Step, essential: Sequence[str]) -> Step:
    models = [name for name in step.models if base_of(name) in essential]
    return replace(
        _only(step, models), images=step.images if step.stage == "train" else min(step.images, FEWEST)
    )


def _fewer_models(
    steps: list[Step], budget: float, seconds: Seconds, *, essential: Sequence[str]
) -> tuple[list[Step], list[str]]:
    left: list[str] = []
    bases = dict.fromkeys(map(base_of, models_of(steps)))
    for base in [base for base in reversed(bases) if base not in essential]:
        if sum(map(seconds, steps)) <= budget:
            break
        steps = [_only(step, [name for name in step.models if base_of(name) != base]) for step in steps]
        left.append(base)
    steps = [step for step in steps if step.models]
    return steps, [f"models: {', '.join(left)}"] if left else []


def _only(step: Step, models: Sequence[str]) -> Step:
    return replace(step, models=tuple(models))
