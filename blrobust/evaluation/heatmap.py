"""The Fourier heat map: the error of a network when one frequency is added to its images.

Yin et al. 2019, "A Fourier perspective on model robustness in computer vision", section 2.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from blrobust import __version__, memory
from blrobust.analysis.heatmap import Frequency, distinct, table
from blrobust.data.datasets import Dataset
from blrobust.device import describe, full_precision
from blrobust.errors import FailedPartsError, UserError
from blrobust.evaluation.probe import check_again, probe
from blrobust.models.batches import bounded
from blrobust.models.zoo import Model
from blrobust.perturbations import random_numbers
from blrobust.perturbations.base import block_size, predict
from blrobust.perturbations.seeding import seeded
from blrobust.progress import Meter
from blrobust.runs.interruption import resumable
from blrobust.runs.measurement import Measurement
from blrobust.runs.provenance import new_record

RESULTS = "heatmap.csv"


def check_size(size: int | None, *, height: int, width: int) -> int:
    """Return `size`, by default the largest odd one; raise `UserError` beyond the images."""
    most = min(height, width)
    if size is None:
        return most - 1 + most % 2
    if not 1 <= size <= most:
        raise UserError(f"--size: got {size}; legal: 1 to {most} for images of {height} x {width}")
    return size


def basis(frequencies: Sequence[Frequency], *, height: int, width: int) -> Tensor:
    """Return U_kl = cos(2 pi (k y / H + l x / W)) with L2 norm 1: float32 (len(frequencies), H, W).

    Its transform is zero except at (k, l) and (-k, -l), as the paper demands; the paper leaves the
    phase open.
    """
    y, x = torch.arange(height)[:, None], torch.arange(width)[None, :]
    steps = torch.stack([(k * y * width + l_ * x * height) % (height * width) for k, l_ in frequencies])
    waves = torch.cos(steps.double() * (2 * math.pi / (height * width)))
    return (waves / waves.square().sum((1, 2), keepdim=True).sqrt()).float()


def signs(
    frequencies: Sequence[Frequency], *, shape: tuple[int, int, int], seed: int, samples: range
) -> Tensor:
    """Return random signs, -1 or 1, per sample, frequency and channel: int8 (len(samples), f, C).

    The signs of a frequency do not depend on the other frequencies measured; `shape` is (C, H, W).
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
    """The images to perturb: pixels (n, C, H, W), labels (n,), signs (n, frequencies, C), on a device."""

    pixels: Tensor
    labels: Tensor
    coins: Tensor
    waves: Tensor  # (frequencies, H, W)
    norm: float
    seed: int = 0  # of the random numbers that a model draws


@torch.no_grad()
def errors(
    model: nn.Module, subject: Subject, indices: range, *, batch_size: int
) -> tuple[list[int], list[int]]:
    """Return, for each frequency in `indices`, the number of images that the model misclassifies.

    The second list has the numbers of images without finite logits. The input is x + r v U_kl,
    clipped to [0, 1], with a sign r per channel and v = `norm`. At most `batch_size` inputs at once, at
    least one image.
    """
    waves = subject.norm * subject.waves[indices.start : indices.stop, None, None]  # (f, 1, 1, H, W)
    wrong, not_finite = torch.zeros(2, len(indices), dtype=torch.int64, device=subject.labels.device)
    step = max(1, batch_size // len(indices))
    for first in range(0, len(subject.labels), step):
        rows = slice(first, first + step)
        labels = subject.labels[rows]
        coins = subject.coins[rows, indices.start : indices.stop].float()  # (m, f, C)
        added = coins.transpose(0, 1)[..., None, None] * waves  # (f, m, C, H, W)
        perturbed = added.add_(subject.pixels[rows]).clamp_(0, 1).flatten(0, 1)
        with seeded("heatmap", subject.seed, indices.start, first, device=labels.device):
            predictions = predict(model, perturbed).view(len(indices), -1)
        wrong += (predictions != labels).sum(1)
        not_finite += (predictions < 0).sum(1)
    return wrong.tolist(), not_finite.tolist()


@torch.no_grad()
def clean_errors(model: nn.Module, subject: Subject, *, batch_size: int) -> tuple[int, int]:
    """Return the number of images that the model misclassifies without perturbation.

    The second number is that of images without finite logits.
    """
    wrong, not_finite = 0, 0
    for first in range(0, len(subject.labels), batch_size):
        rows = slice(first, first + batch_size)
        with seeded("heatmap", subject.seed, "clean", first, device=subject.labels.device):
            predictions = predict(model, subject.pixels[rows])
        wrong += int((predictions != subject.labels[rows]).sum())
        not_finite += int((predictions < 0).sum())
    return wrong, not_finite


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
) -> tuple[Measurement, pd.DataFrame, list[str]]:
    """Measure the frequencies that are not stored yet, and write heatmap.csv.

    Every finished batch is stored immediately, so a stopped measurement can be resumed. Another `batch_size`
    only affects images whose two largest logits differ by a rounding error. `on_start` is called with the
    folder, the number of stored frequencies and that of all, both summed over the models. Returns the
    measurement, its table, and the errors of models that fail, or do not fit into memory, after which the
    others are measured.

    Raises `UserError` for a size beyond the images, `FailedPartsError` where all models fail.
    """
    channels, height, width = dataset.images.shape[1:]
    size = check_size(size, height=height, width=width)
    frequencies = distinct(size, height=height, width=width)
    if device.type == "cpu":
        _check_memory(len(frequencies), len(dataset), channels, height * width)
    models = [bounded(model, batch_size) for model in models]
    batch_size = batch_size or max(500, block_size(dataset.images.shape[1:], device))
    config = {
        "version": __version__,
        "command": "heatmap",
        "size": size,
        "norm": norm,
        "seed": seed,
        "arch": arch,
        "models": [{"label": model.label, "sha256": model.card.sha256} for model in models],
        "dataset": {"name": dataset.name, "checksum": dataset.checksum, "n": len(dataset)},
        "device": device.type,
    }
    cards = [asdict(model.card) for model in models]
    record = new_record(config, dataset=dataset, cards=cards, device=describe(device), batch_size=batch_size)
    record["dataset"]["shape"] = [channels, height, width]
    record |= probe(models, dataset, device)
    with Measurement.begin(out, record) as measurement:
        total = len(models) * len(frequencies)

        def done() -> int:
            return sum(len(state["wrong"]) for state in measurement.done.values())

        on_start(measurement.folder, done(), total)
        with resumable(measurement.folder, lambda: f"{done()} of {total} frequencies"):
            failed: list[str] = []
            if measurement.record["finished"] is None:
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
                    failed = _measure(measurement, models, subject, batch_size=batch_size)
                if len(failed) == len(models):
                    raise FailedPartsError(failed)
                check_again(models, dataset, device, record, measurement.record["flags"])
            frame = table(measurement)
            measurement.write_csv(RESULTS, frame)
            if not failed:
                measurement.finish()
    return measurement, frame, failed


def _check_memory(frequencies: int, n: int, channels: int, pixels: int) -> None:
    """Raise `UserError` if the waves, the signs and the images of a map do not fit into memory."""
    waves = 28 * frequencies * pixels  # float32, and on the way there int64 and twice float64
    memory.check(
        waves + frequencies * n * channels + 4 * n * channels * pixels,
        f"--size: a map of {frequencies:,} different frequencies",
        legal="a smaller --size or --limit",
    )


def _measure(
    measurement: Measurement, models: Sequence[Model], subject: Subject, *, batch_size: int
) -> list[str]:
    """Measure all models and frequencies, with as many frequencies per batch as `batch_size` allows.

    Returns the errors of models that fail or do not fit into memory.
    """
    n, count = len(subject.labels), len(subject.waves)
    per_batch = max(1, batch_size // n)
    done = sum(len(measurement.done.get(model.label, {"wrong": []})["wrong"]) for model in models)
    failed: list[str] = []
    with Meter(images=len(models) * count * n, done=done * n) as meter:
        for model in models:
            try:
                _measure_model(measurement, model, subject, meter, per_batch=per_batch, batch_size=batch_size)
            except (torch.OutOfMemoryError, UserError) as error:
                meter.fail()
                problem = str(error).removeprefix(f"model {model.label!r} ")
                if isinstance(error, torch.OutOfMemoryError):
                    device = subject.pixels.device
                    problem = f"{device} has too little memory, lower --batch-size: {problem}"
                failed.append(f"model {model.label!r}: {problem}")
    return failed


def _measure_model(
    measurement: Measurement, model: Model, subject: Subject, meter: Meter, *, per_batch: int, batch_size: int
) -> None:
    """Measure the frequencies of a model that are not stored yet, and store each batch of them."""
    n, count = len(subject.labels), len(subject.waves)
    state = measurement.done.get(model.label)
    stored = 0 if state is None else len(state["wrong"])
    meter.begin(model.label, images=count * n, done=stored * n)
    if state is None:
        clean, not_finite = clean_errors(model.module, subject, batch_size=batch_size)
        state = {"clean": clean, "clean_not_finite": not_finite, "wrong": [], "not_finite": []}
    for first in range(stored, count, per_batch):
        indices = range(first, min(first + per_batch, count))
        counts = errors(model.module, subject, indices, batch_size=batch_size)
        state["wrong"] += counts[0]
        # Blrobust 0.1.0 did not count them.
        state["not_finite"] = state.get("not_finite", [0] * first) + counts[1]
        measurement.put(model.label, state)
        meter.advance(len(indices) * n)
