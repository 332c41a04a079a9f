"""Training of the models that an experiment of the paper lacks, by the command `blrobust train`."""

from collections.abc import Sequence
from pathlib import Path

from blrobust.cli import output
from blrobust.cli.train import command
from blrobust.data.datasets import Dataset
from blrobust.models.global_settings import unchanged_settings
from blrobust.models.model_names import join_names, trained_on
from blrobust.training.recipes import OF_ARCHITECTURES, SHARED, recipe_of

AT_ONCE = 6  # so that their activations fit into the memory of a GPU


def train(names: Sequence[str], *, arch: str, dataset: Dataset, data_dir: Path | None, device: str) -> None:
    """Train the models called `names` for the data set, and continue trainings that were stopped.

    Up to `AT_ONCE` models with the same number of steps are trained at the same time. The global settings of
    torch, such as the precision of matrix products, are those of before at the end.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in names:
        recipe = recipe_of(name, OF_ARCHITECTURES.get(arch, "default"))
        groups.setdefault(tuple(getattr(recipe, field) for field in SHARED), []).append(name)
    given = ["--arch", arch, "--dataset", trained_on(dataset), "--device", device, "--resume"]
    given += [] if data_dir is None else ["--data-dir", str(data_dir)]
    for group in groups.values():
        for first in range(0, len(group), AT_ONCE):
            models = join_names(group[first : first + AT_ONCE])
            with output.own_stdout(), unchanged_settings():
                command.main([models, *given], standalone_mode=False)
