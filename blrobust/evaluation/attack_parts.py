"""The parts of a sweep over attacks, from the attacks, levels and parameters that a user gives."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from blrobust.attacks.catalogue import parameter_rules
from blrobust.attacks.catalogue.attack_spec import Preset
from blrobust.attacks.catalogue.grids import Grid
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.evaluation.sweep import Part
from blrobust.perturbations.input_space import PIXELS
from blrobust.perturbations.paper_space import space as legacy_space


def attack_parts(
    grids: Mapping[str, Grid],
    settings: Mapping[str, dict[str, Any]],
    *,
    preset: Preset,
    dataset: Dataset,
    seed: int,
    legacy: bool,
    target: int | None,
    source: nn.Module | None,
) -> list[Part]:
    """Return a part for each attack in `grids`, with its parameters in `settings`.

    Default levels that are not legal for images of this size, such as too many pixels, are left out. Raises
    `UserError` for levels, parameters and a target that are not legal for these images and classes.
    """
    classes = len(dataset.classes)
    if target is not None and not 0 <= target < classes:
        raise UserError(f"target: got {target}; legal: 0 to {classes - 1}")
    shape = tuple(dataset.images.shape[1:])
    sizes = parameter_rules.Data(shape[1], shape[2], classes=classes)
    space = legacy_space(dataset) if legacy else PIXELS
    parts, guards = [], []
    for name, (grid, is_default) in grids.items():
        spec, parameters = ATTACKS[name], settings[name]
        levels = grid
        if is_default:
            feasible = spec.feasible(grid, shape)
            levels = feasible if len(feasible) > 1 else grid
        spec.check_levels(levels, shape)
        defaults = spec.budget(preset)
        parameter_rules.check_limits(name, parameters, defaults, sizes)
        guard = Guard(name, spec, seed=seed, space=space, parameters=parameters, target=target, source=source)
        parts.append(Part(guard, levels, {"parameters": parameters}, revision=spec.revision))
        guards.append(guard)
    _check_classes(guards, classes)
    return parts


def _check_classes(guards: Sequence[Guard], classes: int) -> None:
    """Raise `UserError` if attacks need more than `classes` classes; the message names the other attacks."""
    problems: list[str] = []
    for guard in guards:
        try:
            guard.check_classes(classes)
        except UserError as error:
            problems.append(str(error))
    if problems:
        fitting = [guard.kind for guard in guards if not any(repr(guard.kind) in text for text in problems)]
        without = [f"legal for these images: {','.join(fitting)}"] if fitting else []
        raise UserError("; ".join([*problems, *without]))
