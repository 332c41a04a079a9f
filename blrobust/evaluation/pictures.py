"""The pictures in the report: one image at a few levels, as the networks get it."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blrobust.data.datasets import Dataset
from blrobust.perturbations.base import Perturbation
from blrobust.runs.database import Picture
from blrobust.runs.run import Run

COUNT = 6  # pictures beside each other on a page


def take(run: Run, perturbation: Perturbation, dataset: Dataset, device: torch.device) -> list[Picture]:
    """Return the first image that every model classifies correctly, perturbed at several levels.

    If there is no such image, it is image 0. The perturbation is that of draw 0.
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
    """Return at most `COUNT` of the levels, evenly spread, with the first and the last."""
    at = np.linspace(0, len(levels) - 1, min(COUNT, len(levels))).round().astype(int)
    return [levels[i] for i in at]


def png(pixels: Tensor) -> bytes:
    """Return an image (C, H, W) in [0, 1] as PNG: in colour for three channels, otherwise their mean."""
    if len(pixels) != 3:
        pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
    array = pixels.mul(255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "PNG")
    return file.getvalue()
