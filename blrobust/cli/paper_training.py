"""Training of the models that an experiment of the paper lacks, by the command `blrobust train`."""

from collections.abc import Sequence
from pathlib import Path

from blrobust.cli import output
from blrobust.cli.train import command
from blrobust.data.datasets import Dataset
from blrobust.models.model_names import join_names, trained_on
from blrobust.training.recipes import OF_ARCHITECTURES, SHARED, recipe_of


def train(names: Sequence[str], *, arch: str, dataset: Dataset, data_dir: Path | None, device: str) -> None:
    """Train the models called `names` for the data set, and continue trainings that were stopped.

    Models with the same number of steps are trained at the same time.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        recipe = recipe_of(name, OF_ARCHITECTURES.get(arch, "default"))
        groups.setdefault(tuple(getattr(recipe, field) for field in SHARED), []).append(name)
    for group in groups.values():
        given = ["--arch", arch, "--dataset", trained_on(dataset), "--device", device, "--resume"]
        given += [] if data_dir is None else ["--data-dir", str(data_dir)]
        with output.own_stdout():
            command.main([join_names(group), *given], standalone_mode=False)
