"""The pictures in the report: one image at a few levels of a perturbation."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blrobust.data.datasets import Dataset
from blrobust.perturbations.base import Perturbation
from blrobust.runs.database import Picture
from blrobust.runs.run import Run

COUNT = 6  # pictures of a kind, which stand side by side on a page


def take(run: Run, perturbation: Perturbation, dataset: Dataset, device: torch.device) -> list[Picture]:
    """Return pictures of one image at up to `COUNT` levels of the perturbation, ascending, in draw 0.

    The image is the first that every model classifies correctly without perturbation, or the first of the
    data set if there is no such image. The list is empty if the perturbation is a search for adversarial
    inputs.
    """
    kind = perturbation.kind
    levels = run.levels(kind)
    right = np.all([run.correct(model, kind, levels[0])[0] for model in run.models], axis=0)
    sample = int(np.argmax(right))
    samples = range(sample, sample + 1)
    pixels = dataset.pixels([sample], device)
    labels = dataset.labels[[sample]].to(device)
    strip = []
    for level in spread(levels):
        picture = perturbation.picture(pixels, labels, level=level, draw=0, samples=samples)
        if picture is not None:
            strip.append(Picture(kind, level, sample, int(labels), png(picture[0])))
    return strip


def spread(levels: list[float]) -> list[float]:
    """Return at most `COUNT` levels: the first, the last, and others evenly spread over the list."""
    at = np.linspace(0, len(levels) - 1, min(COUNT, len(levels))).round().astype(int)
    return [levels[i] for i in at]


def png(pixels: Tensor) -> bytes:
    """Return an image (C, H, W) in [0, 1] as the bytes of a PNG file.

    An image with three colour channels is in colour. Other images are grey: the mean over the channels.
    """
    if len(pixels) != 3:
        pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
    array = pixels.mul(255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "PNG")
    return file.getvalue()
