"""The Fourier heat map: how often is a network wrong when one frequency is added to its images?

Yin et al. 2019, "A Fourier perspective on model robustness in computer vision", section 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from blrobust import __version__, atomic_write
from blrobust.analysis.heatmap import Frequency, distinct, table
from blrobust.data.datasets import Dataset
from blrobust.device import describe, full_precision
from blrobust.errors import UserError
from blrobust.models.zoo import Model
from blrobust.perturbations import random_numbers
from blrobust.perturbations.base import block_size, predict
from blrobust.progress import Meter
from blrobust.runs.measurement import Measurement
from blrobust.runs.provenance import new_record

RESULTS, REPORT = "heatmap.csv", "heatmap.html"


def check_size(size: int | None, *, height: int, width: int) -> int:
    """``size``, by default the largest odd one; raises ``UserError`` beyond the images."""
    most = min(height, width)
    if size is None:
        return most - 1 + most % 2
    if not 1 <= size <= most:
        raise UserError(f"--size {size}: images of {height} x {width} have maps of size 1 to {most}")
    return size


def basis(frequencies: Sequence[Frequency], *, height: int, width: int) -> Tensor:
    """U_kl = cos(2 pi (k y / H + l x / W)), scaled to L2 norm 1: float32 (len(frequencies), H, W).

    Its transform is zero but at (k, l) and (-k, -l), as the paper asks; which phase is not said there.
    """
    y, x = torch.arange(height)[:, None], torch.arange(width)[None, :]
    steps = torch.stack([(k * y * width + l_ * x * height) % (height * width) for k, l_ in frequencies])
    waves = torch.cos(steps.double() * (2 * math.pi / (height * width)))
    return (waves / waves.square().sum((1, 2), keepdim=True).sqrt()).float()


def signs(
    frequencies: Sequence[Frequency], *, shape: tuple[int, int, int], seed: int, samples: range
) -> Tensor:
    """Fair coins for each sample, frequency and channel: int8 (len(samples), len(frequencies), C).

    A frequency keeps its coins whichever others are measured; ``shape`` is (C, H, W).
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
    """The images to perturb: pixels (n, C, H, W), labels (n,), coins (n, frequencies, C), on a device."""

    pixels: Tensor
    labels: Tensor
    coins: Tensor
    waves: Tensor  # (frequencies, H, W)
    norm: float


@torch.inference_mode()
def errors(model: nn.Module, subject: Subject, indices: range, *, batch_size: int) -> list[int]:
    """How many images the model gets wrong under each of the frequencies at ``indices``.

    x + r v U_kl in every channel with its own sign r, clipped to [0, 1], v = ``norm``. At most
    ``batch_size`` images at once, one at least.
    """
    waves = subject.norm * subject.waves[indices.start : indices.stop, None, None]  # (f, 1, 1, H, W)
    wrong = torch.zeros(len(indices), dtype=torch.int64, device=subject.labels.device)
    step = max(1, batch_size // len(indices))
    for first in range(0, len(subject.labels), step):
        rows = slice(first, first + step)
        labels = subject.labels[rows]
        coins = subject.coins[rows, indices.start : indices.stop].float()  # (m, f, C)
        added = coins.transpose(0, 1)[..., None, None] * waves  # (f, m, C, H, W)
        perturbed = added.add_(subject.pixels[rows]).clamp_(0, 1).flatten(0, 1)
        wrong += (predict(model, perturbed).view(len(indices), -1) != labels).sum(1)
    result: list[int] = wrong.tolist()
    return result


@torch.inference_mode()
def clean_errors(model: nn.Module, subject: Subject, *, batch_size: int) -> int:
    """How many images the model gets wrong as they are."""
    pieces = zip(*(torch.split(t, batch_size) for t in (subject.pixels, subject.labels)), strict=True)
    return sum(int((predict(model, pixels) != labels).sum()) for pixels, labels in pieces)


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
) -> tuple[Path, pd.DataFrame]:
    """Measure what is not done yet, write heatmap.csv and heatmap.html; returns the folder and `table`.

    Every piece that is done is on the disk, so a stopped measurement goes on where it stopped, also
    with another ``batch_size``: only an image whose two top logits differ by a rounding may notice it.
    Raises ``UserError`` for a size beyond the images and where the device has too little memory.
    """
    channels, height, width = dataset.images.shape[1:]
    size = check_size(size, height=height, width=width)
    batch_size = batch_size or max(500, block_size(dataset.images.shape[1:], device))
    config = {
        "version": __version__,
        "command": "heatmap",
        "size": size,
        "norm": norm,
        "seed": seed,
        "arch": arch,
        "models": [{"label": model.label, "sha256": model.card["sha256"]} for model in models],
        "dataset": {"name": dataset.name, "checksum": dataset.checksum, "n": len(dataset)},
        "device": device.type,
    }
    cards = [model.card for model in models]
    record = new_record(config, dataset=dataset, cards=cards, device=describe(device), batch_size=batch_size)
    record["dataset"]["shape"] = [channels, height, width]
    measurement = Measurement(out, record)
    frequencies = distinct(size, height=height, width=width)
    if measurement.record["finished"] is None:
        coins = signs(frequencies, shape=(channels, height, width), seed=seed, samples=range(len(dataset)))
        subject = Subject(
            pixels=dataset.pixels(slice(None), device),
            labels=dataset.labels.to(device),
            coins=coins.to(device),
            waves=basis(frequencies, height=height, width=width).to(device),
            norm=norm,
        )
        try:
            with full_precision():
                _measure(measurement, models, subject, batch_size=batch_size)
        except torch.OutOfMemoryError as error:
            raise UserError(f"{device} has too little memory, lower --batch-size: {error}") from error
    frame = table(measurement)
    atomic_write.write_text(measurement.folder / RESULTS, frame.to_csv(index=False, lineterminator="\n"))
    measurement.finish()
    from blrobust.reports import heatmap as report  # seaborn takes a second to import

    report.render(measurement, frame, measurement.folder / REPORT)
    return measurement.folder, frame


def _measure(measurement: Measurement, models: Sequence[Model], subject: Subject, *, batch_size: int) -> None:
    """Go through the models and the frequencies, as many at once as fill ``batch_size``."""
    n, count = len(subject.labels), len(subject.waves)
    at_once = max(1, batch_size // n)
    done = sum(len(measurement.done.get(model.label, {"wrong": []})["wrong"]) for model in models)
    with Meter(images=len(models) * count * n, done=done * n) as meter:
        for model in models:
            state = measurement.done.get(model.label)
            measured = 0 if state is None else len(state["wrong"])
            meter.begin(model.label, images=count * n, done=measured * n)
            if state is None:
                state = {"clean": clean_errors(model.module, subject, batch_size=batch_size), "wrong": []}
            for first in range(len(state["wrong"]), count, at_once):
                indices = range(first, min(first + at_once, count))
                state["wrong"] += errors(model.module, subject, indices, batch_size=batch_size)
                measurement.put(model.label, state)
                meter.advance(len(indices) * n)
