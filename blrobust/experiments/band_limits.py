"""Models at several band limits: trained at each of them, or tested at each of them."""

from collections.abc import Iterable, Sequence
from typing import Literal

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.models import zoo
from blrobust.models.model_names import split_tested_at, trained_on, with_seed
from blrobust.perturbations import levels

FULL_SPECTRUM = "fp32"
MOST = 99  # per cent
LEGAL = f"legal: whole numbers of per cent from 0 to {MOST}, as 0,10,50 or 0:80:20"

FftSize = Literal["paper", "compact"]


def percents(text: str, *, name: str) -> list[int]:
    """Return the band limits in `text`, in per cent, in the notation of `levels.parse`: ascending, with 0.

    `name` is the option that has the text. Raises `UserError` for numbers that are not whole or above 99.
    """
    found = levels.parse(text, name=name)
    if wrong := [value for value in found if value > MOST or value != int(value)]:
        raise UserError(f"{name}: got {wrong[0]:g}; {LEGAL}")
    return [int(value) for value in found]


def trained_at(limits: Iterable[int], *, fft_size: FftSize = "paper", seeds: int = 1) -> list[str]:
    """Return the names of the models trained at each of the band `limits`, in per cent, with `seeds` seeds.

    `fft_size` is that of the transforms. The model of limit 0 has the full spectrum.
    """
    end = "-compact" if fft_size == "compact" else ""
    names = [f"fft{limit}{end}" if limit else FULL_SPECTRUM for limit in limits]
    return with_seeds(names, seeds)


def with_seeds(names: Iterable[str], seeds: int) -> list[str]:
    """Return each of the names with the training seeds 0 to `seeds` - 1."""
    return [with_seed(name, seed) for name in names for seed in range(seeds)]


def tested_at(models: Iterable[str], limits: Sequence[int]) -> list[str]:
    """Return the names of the trained `models`, each tested at all band `limits`, in per cent.

    The label of a checkpoint gets the limit too: "a=x.safetensors" becomes "a@50=x.safetensors@50". Raises
    `UserError` for a model that has a limit for the test already.
    """
    found = []
    for model in models:
        label, equals, target = model.rpartition("=")
        if split_tested_at(target)[1] is not None:
            raise UserError(f"MODEL: got {model}; legal: models as they were trained, without @NN")
        front = f"{label}@{{0}}=" if equals else ""
        found += [f"{front.format(limit)}{target}@{limit}" for limit in limits]
    return found


def split_by_weights(names: Iterable[str], *, arch: str, dataset: Dataset) -> tuple[list[str], list[str]]:
    """Return the models that have weights for `dataset`, and those that have none.

    The weights of a model behind channels are those of the last part of its name. Raises `UserError` for a
    name outside the grammar.
    """
    found: tuple[list[str], list[str]] = ([], [])
    for name in names:
        has_none = zoo.find_weights(name.rpartition("+")[2], arch=arch, dataset=dataset) is None
        found[has_none].append(name)
    return found


def without_weights(names: Sequence[str], *, arch: str, dataset: Dataset) -> str:
    """Return the line that names models without weights, with the command that trains them."""
    trained = trained_on(dataset)
    command = zoo.training_command(names, arch=arch, dataset=trained)
    return f"no weights for {', '.join(names)} ({arch}, {trained}); train them with: {command}"
