"""The measurement of cells: the outcomes of one model for all images, at one level, in one draw
(repetition).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from blrobust import deadline
from blrobust.data.datasets import Dataset
from blrobust.models.zoo import Model
from blrobust.perturbations.base import Perturbation, block_size, blocks
from blrobust.perturbations.random_numbers import Cache
from blrobust.perturbations.seeding import seeded
from blrobust.progress import Meter
from blrobust.runs.packed_arrays import Outcomes


class CellMeasurement:
    """Measures cells of one perturbation and data set, for any model, level and draw, when it is called.

    The model gets the images in blocks (batches of one size). After about `batch_size` images, the results
    are copied to the CPU. With `keep`, the results include the evaluated pixels. `seed` is the seed of the
    run.
    """

    def __init__(
        self,
        perturbation: Perturbation,
        dataset: Dataset,
        *,
        seed: int,
        device: torch.device,
        batch_size: int,
        keep: bool,
    ) -> None:
        def pixels(_: int, samples: range) -> Tensor:
            return dataset.pixels(slice(samples.start, samples.stop), device)

        self._perturbation = perturbation
        self._seed = seed
        self._pixels = Cache(pixels)
        self._labels = dataset.labels.to(device)
        size = block_size(dataset.images.shape[1:], device)
        self._blocks = list(blocks(len(dataset), size))
        self._flight = -(-batch_size // size)  # blocks between two copies of results to the CPU
        self._keep = keep

    def __call__(self, model: Model, *, levels: Sequence[float], draw: int, meter: Meter) -> list[Outcomes]:
        """Return the outcomes of each level, a dict of arrays (n,) over the n images of the data set.

        `meter` counts the finished images. Raises `UserError` if the model fails, `torch.OutOfMemoryError` if
        memory is full, and `DeadlineError` at the deadline, if there is one.
        """
        on_cpu: list[list[Outcomes]] = [[] for _ in levels]
        for first in range(0, len(self._blocks), self._flight):
            deadline.check()
            on_device: list[list[dict[str, Tensor]]] = [[] for _ in levels]
            for samples, skip in self._blocks[first : first + self._flight]:
                # If one search serves all levels, its seed does not depend on which of them are measured.
                at = "all" if self._perturbation.one_search_for_all_levels and levels[0] > 0 else levels[0]
                key = (self._seed, model.label, self._perturbation.kind, at, draw, samples.start)
                with seeded(*key, device=self._labels.device):
                    results = self._perturbation.measure(
                        model.module,
                        self._pixels.block(0, samples),
                        self._labels[samples.start : samples.stop],
                        levels=levels,
                        draw=draw,
                        samples=samples,
                        keep=self._keep,
                    )
                for blocks_of_level, result in zip(on_device, results, strict=True):
                    blocks_of_level.append({key: values[skip:] for key, values in result.items()})
            # A copy to the CPU waits for the device. So the results of several blocks are copied together.
            for flights, group in zip(on_cpu, on_device, strict=True):
                flights.append({key: torch.cat([a[key] for a in group]).cpu().numpy() for key in group[0]})
            meter.advance(len(on_cpu[0][-1]["prediction"]) * len(levels))
        return [{key: np.concatenate([f[key] for f in flights]) for key in flights[0]} for flights in on_cpu]
