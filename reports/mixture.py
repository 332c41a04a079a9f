"""The differences between runs that share a figure and a table: images, settings and levels."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from blrobust.analysis.analysis import Analysis
from blrobust.reports.axes import Axis
from blrobust.runs.configuration import Attack, AttackGrid

Analyses = Mapping[str, Analysis]


def shared_levels(runs: Analyses) -> list[float]:
    """Return the levels that were measured in all runs."""
    first, *others = (analysis.levels for analysis in runs.values())
    return [level for level in first if all(level in levels for levels in others)]


def mixture_note(runs: Analyses, axis: Axis) -> str | None:
    """Return a note on differences of images, settings or levels between runs in one table, or None."""
    return " ".join([*_images(runs), *_settings(runs), *_levels(runs, axis)]) or None


def _images(runs: Analyses) -> list[str]:
    """Return a sentence if runs have different images, or different numbers of images; else an empty list.

    Every run uses the first images of a data set and split. A run does not store images. So its images count
    as the first images of another run if data set and split are the same and the labels agree.
    """
    data = {name: analysis.run.record.dataset for name, analysis in runs.items()}
    if len({facts.checksum for facts in data.values()}) == 1:
        return []
    sizes = ", ".join(f"{name} {facts.n:,} of {facts.name}" for name, facts in data.items())
    end = "their rows are not paired"
    largest = max(runs.values(), key=lambda analysis: len(analysis.run.labels)).run
    source = (largest.record.dataset.name, largest.record.dataset.split)
    is_nested = all(
        (facts.name, facts.split) == source
        and np.array_equal(runs[name].run.labels, largest.labels[: facts.n])
        and (facts.n < len(largest.labels) or facts.checksum == largest.record.dataset.checksum)
        for name, facts in data.items()
    )
    if is_nested:
        return [
            f"The runs are on the first images of one data set, some on fewer than others ({sizes}), so the "
            f"images of a run contain those of a smaller one: {end}."
        ]
    return [f"The runs are not on the same images ({sizes}): {end}."]


def _settings(runs: Analyses) -> list[str]:
    """Return a sentence with every setting in which the runs differ, and its values."""
    parts = different_settings(runs)
    if not parts:
        return []
    return [
        f"The runs have different settings: {'; '.join(parts)}. Differences between rows of different runs "
        "may come from these."
    ]


def different_settings(runs: Analyses) -> list[str]:
    """Return every setting in which the runs differ, with its values, such as "seed (first 0, second 1)"."""
    settings = {name: _named_settings(analysis) for name, analysis in runs.items()}
    names = dict.fromkeys(key for found in settings.values() for key in found)
    parts = []
    for key in names:
        values = {name: found[key] for name, found in settings.items() if key in found}
        if len({repr(value) for value in values.values()}) > 1:
            parts.append(f"{key} ({', '.join(f'{name} {value}' for name, value in values.items())})")
    return parts


def _named_settings(analysis: Analysis) -> dict[str, Any]:
    """Return the settings on which the results of `analysis` depend, by name, except images and levels."""
    config = analysis.run.sweep
    grid = config.kinds[analysis.kind]
    parameters = grid.parameters if isinstance(grid, AttackGrid) else {}
    models = [*config.models, *([config.source] if isinstance(config, Attack) and config.source else [])]
    target = config.target if isinstance(config, Attack) else None
    return {
        "seed": config.seed,
        "draws per image": config.draws,
        "architecture": config.arch,
        **{f"weights of {model.label}": model.sha256[:12] for model in models},
        "source model": config.origin or "none",
        "target class": "none" if target is None else target,
        **parameters,
        f"revision of {analysis.kind}": grid.revision,
        "device": config.device,
        "images per block": config.block,
        "blrobust": config.version,
    }


def _levels(runs: Analyses, axis: Axis) -> list[str]:
    if len({tuple(analysis.levels) for analysis in runs.values()}) == 1:
        return []
    shared = shared_levels(runs)
    over = (
        "which share only the clean images, so they have no common mean accuracy or level at 50 %"
        if len(shared) == 1
        else f"so mean accuracy and level at 50 % are over the {len(shared)} that they share "
        f"({axis.describe(shared[0])} to {axis.format(shared[-1])}); all other numbers "
        "and the sentences are over each run's own levels"
    )
    return [f"The runs have different levels, {over}."]
