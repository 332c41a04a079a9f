"""The predicted time of a step, from a short measurement of the models on the device."""

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.experiments.step import Step, base_of
from blrobust.models import zoo
from blrobust.models.model_names import facts_of
from blrobust.perturbations.base import block_size

LARGEST = 1000  # images of a timed pass; a step of few images does not fill a GPU better
PASSES = 3  # timed passes, of which the median counts
OVERHEAD = 1.5  # of a measurement: its time divided by that of its bare passes
LOADING = 0.3  # seconds to load a model and to begin and end its part of a run, besides passes
CHECKS = 4  # passes of a block with which a run checks each model


@dataclass(frozen=True)
class Speed:
    """Predicts seconds from images per second in forward passes, by model; `block` are images per block."""

    images_per_second: Mapping[str, float]
    block: int

    def seconds(self, step: Step) -> float:
        """Return the predicted seconds of a step."""
        passes = step.passes * step.images + CHECKS * self.block
        seconds = sum(passes / self.images_per_second[base_of(name)] for name in step.models)
        return OVERHEAD * seconds + LOADING * len(step.models)


def measure(names: Iterable[str], *, arch: str, dataset: Dataset, device: torch.device) -> Speed:
    """Return the speed of untrained models with the settings of the models called `names`.

    Models of the same settings are timed once. Raises `UserError` for a name outside the grammar.
    """
    pixels = dataset.pixels(slice(min(LARGEST, block_size(dataset.images.shape[1:], device))), device)
    found: dict[str, float] = {}
    timed: dict[tuple[object, ...], float] = {}
    for name in map(base_of, names):
        facts = facts_of(name, arch=arch, dataset=dataset)
        settings = (facts.precision, facts.compression, facts.fft_size, facts.low_pass, facts.width)
        if settings not in timed:
            module, _ = zoo.placed(facts.build().eval(), facts, device)
            timed[settings] = len(pixels) / _seconds_of_pass(module, pixels)
        found[name] = timed[settings]
    return Speed(found, len(pixels))


@torch.no_grad()
def _seconds_of_pass(module: nn.Module, pixels: torch.Tensor) -> float:
    times = []
    with full_precision():
        module(pixels)  # compiles kernels and allocates memory
        for _ in range(PASSES):
            start = time.perf_counter()
            module(pixels)[0, 0].item()  # waits for the device
            times.append(time.perf_counter() - start)
    return statistics.median(times)
