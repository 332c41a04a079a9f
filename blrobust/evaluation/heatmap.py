"""The Fourier heat map: the error of a network when a wave of one frequency is added to its images.

Yin et al. 2019, "A Fourier perspective on model robustness in computer vision", section 2.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blrobust import __version__, memory
from blrobust.analysis.heatmap import HeatmapAnalysis
from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.errors import FailedPartsError, UserError
from blrobust.evaluation.run_ends import begin, end, failure, identities, identity_of, restore
from blrobust.models.batches import bounded
from blrobust.models.zoo import Model
from blrobust.perturbations import random_numbers
from blrobust.perturbations.base import block_size, predict
from blrobust.perturbations.seeding import seeded
from blrobust.progress import Meter
from blrobust.runs.configuration import Heatmap
from blrobust.runs.frequencies import CLEAN, Frequency, distinct, wave_kind
from blrobust.runs.interruption import resumable
from blrobust.runs.new_cell import NewCell
from blrobust.runs.run import Run


def check_size(size: int | None, *, height: int, width: int) -> int:
    """Return the size of a heat map: the number of frequencies along each axis.

    The result is `size`, or by default the largest odd number up to the shorter side of the images, `height`
    x `width`. Raises `UserError` for a `size` below 1 or above the shorter side.
    """
    most = min(height, width)
    if size is None:
        return most - 1 + most % 2
    if not 1 <= size <= most:
        raise UserError(f"size: got {size}; legal: 1 to {most} for images of {height} x {width}")
    return size


def basis(frequencies: Sequence[Frequency], *, height: int, width: int) -> Tensor:
    """Return the waves cos(2 * pi * (k * y / H + l * x / W)), scaled to L2 norm 1, of frequencies (k, l).

    The waves are float32 (len(`frequencies`), H, W) with H = `height` and W = `width`. As in the paper, the
    Fourier transform of a wave is zero except at (k, l) and (-k, -l). The paper does not state the phase of
    the waves; here they are cosines.
    """
    y, x = torch.arange(height)[:, None], torch.arange(width)[None, :]
    steps = torch.stack([(k * y * width + l_ * x * height) % (height * width) for k, l_ in frequencies])
    waves = torch.cos(steps.double() * (2 * math.pi / (height * width)))
    return (waves / waves.square().sum((1, 2), keepdim=True).sqrt()).float()


def signs(
    frequencies: Sequence[Frequency], *, shape: tuple[int, int, int], seed: int, samples: range
) -> Tensor:
    """Return a random sign, -1 or 1, for each sample, frequency and colour channel.

    The signs are int8 (len(`samples`), len(`frequencies`), C). `shape` is that of an image, (C, H, W).
    `samples` are positions of images in the data set. The signs of a frequency do not depend on the other
    frequencies.
    """
    channels, height, width = shape
    indices = torch.tensor([k * width + l_ for k, l_ in frequencies])
    coins = []
    for sample in samples:
        numbers = random_numbers.uniforms(
            channels * height * width,
            stream=random_numbers.BASIS,
            seed=seed,
            draw=0,
            samples=range(sample, sample + 1),
            device=torch.device("cpu"),
        )
        heads = numbers.view(height * width, channels)[indices] < 0.5
        coins.append(heads.to(torch.int8) * 2 - 1)
    return torch.stack(coins)


@dataclass(frozen=True)
class Subject:
    """The images of a heat map, and the waves to add to them, as tensors on one device."""

    pixels: Tensor  # (n, C, H, W) in [0, 1]
    labels: Tensor  # (n,)
    coins: Tensor  # random signs (n, frequencies, C), -1 or 1
    waves: Tensor  # (frequencies, H, W), of L2 norm 1
    norm: float  # L2 norm of the wave that is added to a colour channel
    seed: int = 0  # for the random numbers that a model draws


@torch.no_grad()
def predictions(
    model: nn.Module, subject: Subject, indices: Sequence[int], *, batch_size: int
) -> NDArray[np.int16]:
    """Return the predicted class of every image with every wave in `indices`, int16 (len(indices), n).

    `indices` are indices of `subject.waves`. The input of the model is x + r * v * U, clipped to [0, 1],
    where x is the image, r a random sign for each colour channel, v = `subject.norm`, and U the wave. A batch
    has at most `batch_size` inputs, but always all waves of at least one image.
    """
    places = list(indices)
    waves = subject.norm * subject.waves[places, None, None]  # (f, 1, 1, H, W)
    found = []
    step = max(1, batch_size // len(places))
    for first in range(0, len(subject.labels), step):
        rows = slice(first, first + step)
        coins = subject.coins[rows][:, places].float()  # (m, f, C)
        added = coins.transpose(0, 1)[..., None, None] * waves  # (f, m, C, H, W)
        perturbed = added.add_(subject.pixels[rows]).clamp_(0, 1).flatten(0, 1)
        with seeded("heatmap", subject.seed, places[0], first, device=subject.labels.device):
            found.append(predict(model, perturbed).view(len(places), -1))
    result: NDArray[np.int16] = torch.cat(found, dim=1).cpu().numpy()
    return result


@torch.no_grad()
def clean_predictions(model: nn.Module, subject: Subject, *, batch_size: int) -> NDArray[np.int16]:
    """Return the predicted class of every image without a wave, int16 (n,); -1 if a logit is not finite."""
    found = []
    for first in range(0, len(subject.labels), batch_size):
        with seeded("heatmap", subject.seed, "clean", first, device=subject.labels.device):
            found.append(predict(model, subject.pixels[first : first + batch_size]))
    result: NDArray[np.int16] = torch.cat(found).cpu().numpy()
    return result


def execute(
    *,
    models: Sequence[Model],
    dataset: Dataset,
    size: int | None,
    norm: float,
    seed: int,
    arch: str,
    device: torch.device,
    batch_size: int | None = None,
    out: Path | None = None,
    on_start: Callable[[Path, int, int], None] = lambda folder, done, total: None,
) -> Path:
    """Begin or resume the run of a heat map: measure frequencies that are not stored, and write results.csv.

    The map has `size` x `size` frequencies, by default the largest odd size. `norm` is the L2 norm of the
    wave that is added to each colour channel. Models get at most `batch_size` images at once. Every batch is
    stored as soon as it is finished. `on_start` is called with the run folder, the number of stored
    frequencies and the number of all frequencies, both summed over the models. A finished run is not changed.

    Returns the run folder. If models fail or do not fit into memory, all others are measured before
    `FailedPartsError` is raised. Raises `UserError` if `size` exceeds the images, if memory is too small, or
    if the folder cannot be used.
    """
    channels, height, width = dataset.images.shape[1:]
    size = check_size(size, height=height, width=width)
    frequencies = distinct(size, height=height, width=width)
    if device.type == "cpu":
        _check_memory(len(frequencies), len(dataset), channels, height * width)
    models = [bounded(model, batch_size) for model in models]
    batch_size = batch_size or max(500, block_size(dataset.images.shape[1:], device))
    config = Heatmap(
        version=__version__,
        size=size,
        norm=norm,
        shape=(channels, height, width),
        seed=seed,
        arch=arch,
        models=identities(models),
        dataset=identity_of(dataset),
        device=device.type,
    )
    run, answers = begin(
        config, models=models, dataset=dataset, device=device, batch_size=batch_size, out=out
    )
    total = len(models) * len(frequencies)
    with run:

        def done() -> int:
            return sum(kind != CLEAN for _, kind, *_ in run.done())

        on_start(run.path, done(), total)
        if run.finished:
            restore(HeatmapAnalysis(run, config))
            return run.path
        with resumable(run.path, lambda: f"{done()} of {total} frequencies"):
            coins = signs(
                frequencies, shape=(channels, height, width), seed=seed, samples=range(len(dataset))
            )
            subject = Subject(
                pixels=dataset.pixels(slice(None), device),
                labels=dataset.labels.to(device),
                coins=coins.to(device),
                waves=basis(frequencies, height=height, width=width).to(device),
                norm=norm,
                seed=seed,
            )
            with full_precision():
                failed = _measure(run, models, subject, frequencies, batch_size=batch_size)
            if len(failed) == len(models):
                raise FailedPartsError(failed)
            results = HeatmapAnalysis(run, config)
            end(results, answers, models=models, dataset=dataset, device=device, failed=failed)
    if failed:
        raise FailedPartsError(failed, run.path)
    return run.path


def _check_memory(frequencies: int, n: int, channels: int, pixels: int) -> None:
    """Raise `UserError` if the waves, the signs and the images of a heat map do not fit into memory.

    `n` is the number of images; an image has `channels` colour channels of `pixels` pixels.
    """
    waves = 28 * frequencies * pixels  # bytes: float32, and one int64 and two float64 arrays to compute them
    memory.check(
        waves + frequencies * n * channels + 4 * n * channels * pixels,
        f"size: a map of {frequencies:,} different frequencies",
        legal="a smaller size or limit",
    )


def _measure(
    run: Run, models: Sequence[Model], subject: Subject, frequencies: Sequence[Frequency], *, batch_size: int
) -> list[str]:
    """Measure and store the predictions of all models for all frequencies that are not stored yet.

    Returns an error message for each model that fails or does not fit into memory.
    """
    n, count, done = len(subject.labels), len(frequencies), run.done()
    todo = {
        model.label: [
            place
            for place, frequency in enumerate(frequencies)
            if (model.label, wave_kind(frequency), subject.norm, 0) not in done
        ]
        for model in models
    }
    missing = sum(map(len, todo.values()))
    failed: list[str] = []
    with Meter(images=len(models) * count * n, done=(len(models) * count - missing) * n) as meter:
        for model in models:
            places = todo[model.label]
            meter.begin(model.label, images=count * n, done=(count - len(places)) * n)
            try:
                if (model.label, CLEAN, 0.0, 0) not in done:
                    _measure_clean(run, model, subject, batch_size=batch_size)
                _measure_waves(run, model, subject, frequencies, places, meter, batch_size=batch_size)
            except (torch.OutOfMemoryError, UserError) as error:
                meter.fail()
                problem = failure(error, subject.pixels.device).removeprefix(f"model {model.label!r} ")
                failed.append(f"model {model.label!r}: {problem}")
    return failed


def _measure_clean(run: Run, model: Model, subject: Subject, *, batch_size: int) -> None:
    """Measure and store the predictions of a model for the images without a wave."""
    n, start = len(subject.labels), time.perf_counter()
    found = {"prediction": clean_predictions(model.module, subject, batch_size=batch_size)}
    cell = (model.label, CLEAN, 0.0, 0)
    run.add(cell, found, forwards=n, backwards=0, seconds=time.perf_counter() - start)


def _measure_waves(
    run: Run,
    model: Model,
    subject: Subject,
    frequencies: Sequence[Frequency],
    places: Sequence[int],
    meter: Meter,
    *,
    batch_size: int,
) -> None:
    """Measure the predictions of a model for images with waves, and store them batch by batch.

    `places` are the indices of the waves' frequencies in `frequencies`.
    """
    n = len(subject.labels)
    per_batch = max(1, batch_size // n)
    for first in range(0, len(places), per_batch):
        batch, start = places[first : first + per_batch], time.perf_counter()
        rows = predictions(model.module, subject, batch, batch_size=batch_size)
        seconds = (time.perf_counter() - start) / len(batch)
        run.add_all(
            NewCell(
                (model.label, wave_kind(frequencies[place]), subject.norm, 0),
                {"prediction": row},
                forwards=n,
                backwards=0,
                seconds=seconds,
            )
            for place, row in zip(batch, rows, strict=True)
        )
        meter.advance(len(batch) * n)
