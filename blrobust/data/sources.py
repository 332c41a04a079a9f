"""Download and reading of the registered data sets."""

import json
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from blrobust.data.labelled_images import LabelledImages, check
from blrobust.data.registry import data_folder, find, get_command
from blrobust.errors import UserError, reason

SAMPLES = Path(__file__).parents[1] / "samples"

# The errors that torchvision raises, depending on the set, for missing, truncated or altered files.
DAMAGE = (RuntimeError, ValueError, AssertionError, LookupError, EOFError, TypeError, OverflowError)


def fetch(name: str, *, data_dir: Path | None = None) -> Path:
    """Download a registered data set with progress on stderr, check it, and return its folder.

    Files that exist already are only checked. Raises `UserError` if the download fails.
    """
    source, folder = find(name), data_folder(data_dir)
    try:
        for split in source.files:
            _torchvision(name, split, folder, download=True)
    except (OSError, HTTPException, *DAMAGE) as error:
        message = f"{name} could not be downloaded into {folder}: {reason(error)}"
        if source.found(folder):
            message += f". If the present files are damaged, delete {folder / source.location} and try again"
        raise UserError(message) from error
    return folder


def read(name: str, split: str, *, data_dir: Path | None = None) -> LabelledImages:
    """Return one split of a registered data set: images uint8 (n, C, H, W), labels int64 (n,), class names.

    Raises `UserError` if the name or the split is unknown, or if the files are missing or damaged.
    """
    source, folder = find(name), data_folder(data_dir)
    if split not in source.sizes:
        raise UserError(f"split: got {split!r} for {name}; legal: {', '.join(source.sizes)}")
    if not source.files:
        return _read_sheet(name)
    command = get_command(name, folder)
    if not source.found(folder, split):
        file = folder / source.files[split]
        raise UserError(f"{name} is missing: there is no file {file}. Get it with: {command}")
    try:
        data = _torchvision(name, split, folder, download=False)
    except DAMAGE as error:
        raise UserError(
            f"{name} is incomplete or damaged ({reason(error)}). "
            f"Delete {folder / source.location} and run: {command}"
        ) from error
    # CIFAR comes as (n, H, W, C), the gray sets as (n, H, W), SVHN as (n, C, H, W).
    images = torch.as_tensor(data.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = torch.as_tensor(data.labels if name == "svhn" else data.targets)
    classes = getattr(data, "classes", None) or [str(label) for label in range(source.classes)]
    found = LabelledImages(images.contiguous(), labels, tuple(classes))
    file = folder / source.files[split]
    check(
        found,
        images=f"{name}, {file}",
        labels=f"{name}, {file.with_name(file.name.replace('images-idx3', 'labels-idx1'))}",
        count=source.sizes[split],
        shape=source.shape,
        classes=source.classes,
    )
    return found


def _read_sheet(name: str) -> LabelledImages:
    """Return the images (n, 3, side, side) of a bundled data set, which are parts of one large picture."""
    card = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    with Image.open(SAMPLES / f"{name}.webp", formats=["WEBP"]) as image:
        sheet = np.array(image.convert("RGB"))
    side = card["side"]
    down, across = sheet.shape[0] // side, sheet.shape[1] // side
    cells = sheet.reshape(down, side, across, side, 3).transpose(0, 2, 4, 1, 3)
    images = torch.from_numpy(cells.reshape(-1, 3, side, side))
    data = LabelledImages(images, torch.tensor(card["labels"]), tuple(card["classes"]))
    source = find(name)
    check(
        data,
        images=name,
        labels=name,
        count=source.sizes["test"],
        shape=source.shape,
        classes=source.classes,
    )
    return data


def _torchvision(name: str, split: str, folder: Path, *, download: bool) -> Any:
    from torchvision import datasets  # takes a second to import, and the sample does not need it

    if name == "svhn":
        return datasets.SVHN(folder, split=split, download=download)
    kinds = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "fashion-mnist": datasets.FashionMNIST,
    }
    return kinds[name](folder, train=split == "train", download=download)
