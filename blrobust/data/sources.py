"""The registered data sets: what they hold, where they lie, how they are fetched and read."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from PIL import Image

from blrobust.data.image_files import LabelledImages
from blrobust.errors import UserError, reason

ENVIRONMENT = "BLROBUST_DATA"
SAMPLES = Path(__file__).parents[1] / "samples"

# What torchvision raises, depending on the set, on missing, truncated or altered files.
DAMAGE = (RuntimeError, ValueError, AssertionError, KeyError, EOFError)


@dataclass(frozen=True)
class Source:
    """A registered set: what it holds, the file that shows it is there, and whom to cite.

    ``mean`` and ``std`` are per channel, in pixel units of [0, 1]. A set without files is bundled.
    """

    classes: int
    sizes: Mapping[str, int]
    files: Mapping[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    citation: str

    @property
    def location(self) -> str:
        """The one file or sub-folder, below the data folder, that holds the test images."""
        return Path(self.files["test"]).parts[0]

    def found(self, folder: Path, split: str = "test") -> bool:
        """Whether this split lies in ``folder``; nothing is read."""
        return not self.files or (folder / self.files[split]).is_file()


# Normalisation: CIFAR-10 as in the paper's code, the others over all training pixels.
NAMES: dict[str, Source] = {
    "cifar10": Source(
        classes=10,
        sizes={"train": 50_000, "test": 10_000},
        files={
            "train": "cifar-10-batches-py/data_batch_1",
            "test": "cifar-10-batches-py/test_batch",
        },
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    "cifar10-sample": Source(
        classes=10,
        sizes={"test": 1_000},
        files={},
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        citation="the first 1,000 test images of CIFAR-10, Krizhevsky 2009",
    ),
    "cifar100": Source(
        classes=100,
        sizes={"train": 50_000, "test": 10_000},
        files={"train": "cifar-100-python/train", "test": "cifar-100-python/test"},
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    "fashion-mnist": Source(
        classes=10,
        sizes={"train": 60_000, "test": 10_000},
        files={
            "train": "FashionMNIST/raw/train-images-idx3-ubyte",
            "test": "FashionMNIST/raw/t10k-images-idx3-ubyte",
        },
        mean=(0.2860,),
        std=(0.3530,),
        citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
    ),
    "svhn": Source(
        classes=10,
        sizes={"train": 73_257, "test": 26_032},
        files={"train": "train_32x32.mat", "test": "test_32x32.mat"},
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        citation="Netzer et al. 2011, Reading Digits in Natural Images",
    ),
}


def data_folder(data_dir: Path | None = None) -> Path:
    """Return where data sets live: ``data_dir``, else ``BLROBUST_DATA``, else the user's cache."""
    chosen = data_dir or os.environ.get(ENVIRONMENT)
    # os.path leaves a "~name" of nobody as it is, where Path.expanduser raises.
    return Path(os.path.expanduser(chosen)) if chosen else platformdirs.user_cache_path("blrobust")


def find(name: str) -> Source:
    """Return a registered set; UserError naming the legal names where there is none."""
    if name not in NAMES:
        raise UserError(f"unknown data set {name!r}: choose {', '.join(NAMES)}, folder:PATH or npz:PATH")
    return NAMES[name]


def get_command(name: str, folder: Path) -> str:
    """Return the command that puts a registered set into ``folder``."""
    return f"blrobust data get {name} --data-dir {shlex.quote(str(folder))}"


def fetch(name: str, *, data_dir: Path | None = None) -> Path:
    """Download a registered set with progress on stderr, check it, and return its folder.

    What is there already is only checked. Raises UserError where the download fails.
    """
    source, folder = find(name), data_folder(data_dir)
    try:
        for split in source.files:
            _torchvision(name, split, folder, download=True)
    except (OSError, HTTPException, *DAMAGE) as error:
        message = f"{name} could not be fetched into {folder}: {reason(error)}"
        if source.found(folder):
            message += f". If what is there is damaged, delete {folder / source.location} and try again"
        raise UserError(message) from error
    return folder


def read(name: str, split: str, *, data_dir: Path | None = None) -> LabelledImages:
    """Read one split of a registered set: images uint8 (n, C, H, W), labels int64 (n,).

    Raises UserError where the name or split is unknown, or the files are missing or damaged.
    """
    source, folder = find(name), data_folder(data_dir)
    if split not in source.sizes:
        raise UserError(f"{name} has no {split} images: it has {', '.join(source.sizes)}")
    if not source.files:
        return _read_sheet(name)
    command = get_command(name, folder)
    if not source.found(folder, split):
        file = folder / source.files[split]
        raise UserError(f"{name} is missing: looked for {file}. Get it with: {command}")
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
    return LabelledImages(images.contiguous(), labels, tuple(classes))


def _read_sheet(name: str) -> LabelledImages:
    """Cut a bundled sheet, rows of square images, into uint8 (n, 3, side, side)."""
    card = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    with Image.open(SAMPLES / f"{name}.webp") as image:
        sheet = np.array(image.convert("RGB"))
    side = card["side"]
    down, across = sheet.shape[0] // side, sheet.shape[1] // side
    cells = sheet.reshape(down, side, across, side, 3).transpose(0, 2, 4, 1, 3)
    images = torch.from_numpy(cells.reshape(-1, 3, side, side))
    return LabelledImages(images, torch.tensor(card["labels"]), tuple(card["classes"]))


def _torchvision(name: str, split: str, folder: Path, *, download: bool) -> Any:
    from torchvision import datasets  # a second to import, and the sample does without

    if name == "svhn":
        return datasets.SVHN(folder, split=split, download=download)
    kinds = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "fashion-mnist": datasets.FashionMNIST,
    }
    return kinds[name](folder, train=split == "train", download=download)
