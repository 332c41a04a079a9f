"""A plan that fits into a given time: what is measured, and what is left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from blrobust.experiments.step import Step, base_of, models_of, seed_of

FEWEST = 100  # images; with fewer, intervals are wide, and a block of a CPU is not full
MOST_SHARE = 0.25  # of the time, for one step with the fewest images; a longer step is left out

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
    those called `essential`. At the end whole steps are left out, the last ones first. A training uses all
    images.
    """
    left: list[str] = []
    fewer_models = partial(_fewer_models, essential=essential)
    for shorten in (_fewer_seeds, _fewer_images, fewer_models, _fewer_steps):
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


def _fewer_images(steps: list[Step], budget: float, seconds: Seconds) -> tuple[list[Step], list[str]]:
    """Halve the images of the longest step, again and again, and leave out steps that are too long anyway."""
    before = {step.name: step.images for step in steps}

    def smallest(step: Step) -> Step:
        return step if step.stage == "train" else replace(step, images=min(step.images, FEWEST))

    shortest = {step.name: seconds(smallest(step)) for step in steps if step.stage != "train"}
    too_long = {name: time for name, time in shortest.items() if time > MOST_SHARE * budget}
    steps = [step for step in steps if step.name not in too_long]
    while sum(map(seconds, steps)) > budget:
        shrinkable = [step for step in steps if smallest(step) != step]
        if not shrinkable:
            break
        longest = max(shrinkable, key=seconds)
        halved = replace(longest, images=max(FEWEST, longest.images // 2))
        steps = [halved if step is longest else step for step in steps]
    lines = [
        f"{name}: all its images ({min(before[name], FEWEST)} would take {time:,.0f} s)"
        for name, time in too_long.items()
    ]
    fewer = [step for step in steps if step.images < before[step.name]]
    sizes = [f"{step.name} {step.images:,} of {before[step.name]:,}" for step in fewer]
    return steps, lines + ([f"images: {', '.join(sizes)}"] if sizes else [])


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


def _fewer_steps(steps: list[Step], budget: float, seconds: Seconds) -> tuple[list[Step], list[str]]:
    left: list[str] = []
    while len(steps) > 1 and sum(map(seconds, steps)) > budget:
        left.append(steps.pop().name)
    return steps, [f"measurements: {', '.join(reversed(left))}"] if left else []


def _only(step: Step, models: Sequence[str]) -> Step:
    return replace(step, models=tuple(models))
