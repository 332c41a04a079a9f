"""The plan of an experiment for the time that is left on this device."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from blrobust.data.datasets import Dataset
from blrobust.experiments import budget, speed
from blrobust.experiments.budget import Plan
from blrobust.experiments.execution import as_begun
from blrobust.experiments.step import Step, models_of


def plan_steps(
    steps: Sequence[Step],
    *,
    out: Path,
    seconds: float,
    essential: Sequence[str],
    arch: str,
    dataset: Dataset,
    device: torch.device,
) -> Plan:
    """Return the plan of those of the `steps` that fit into `seconds`, in the order of `steps`.

    The time of each step is predicted from a short measurement of its models on `device`. If the time is
    limited, a step that was begun in `out` keeps the models and images of its run. A finished step takes no
    time. `essential` are models that are never left out.
    """
    measured = speed.measure(models_of(steps), arch=arch, dataset=dataset, device=device)
    if math.isinf(seconds):
        return Plan(tuple(steps), (), {step.name: measured.seconds(step) for step in steps})
    begun: dict[str, Step] = {}
    predicted: dict[str, float] = {}
    for step in steps:
        if (found := as_begun(step, out)) is not None:
            begun[step.name], is_finished = found
            predicted[step.name] = 0.0 if is_finished else measured.seconds(begun[step.name])
    fitting = budget.fit(
        [step for step in steps if step.name not in begun],
        budget=seconds - sum(predicted.values()),
        seconds=measured.seconds,
        essential=essential,
    )
    chosen = begun | {step.name: step for step in fitting.steps}
    kept = [chosen[step.name] for step in steps if step.name in chosen]
    return Plan(tuple(kept), fitting.left_out, {**fitting.seconds, **predicted})
