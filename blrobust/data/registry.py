"""The registered data sets: their sizes, files and statistics, in a module that does not import torch."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from blrobust.errors import UserError
from blrobust.user_paths import expanded

ENVIRONMENT = "BLROBUST_DATA"


@dataclass(frozen=True)
class Source:
    """A registered data set: its sizes, the file by which each split is recognised, and its citation.

    `shape` is that of an image, (C, H, W). `mean` and `std` are per channel, in pixel units of [0, 1]. A
    set without files is bundled.
    """

    classes: int
    sizes: Mapping[str, int]
    files: Mapping[str, str]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    citation: str

    @property
    def location(self) -> str:
        """The file or sub-folder, within the folder of all data sets, that has the test images."""
        return Path(self.files["test"]).parts[0]

    def found(self, folder: Path, split: str = "test") -> bool:
        """Return whether this split is in `folder`; no file is read."""
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
        shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    "cifar10-sample": Source(
        classes=10,
        sizes={"test": 1_000},
        files={},
        shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        citation="the first 1,000 test images of CIFAR-10, Krizhevsky 2009",
    ),
    "cifar100": Source(
        classes=100,
        sizes={"train": 50_000, "test": 10_000},
        files={"train": "cifar-100-python/train", "test": "cifar-100-python/test"},
        shape=(3, 32, 32),
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
        shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
    ),
    "svhn": Source(
        classes=10,
        sizes={"train": 73_257, "test": 26_032},
        files={"train": "train_32x32.mat", "test": "test_32x32.mat"},
        shape=(3, 32, 32),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        citation="Netzer et al. 2011, Reading Digits in Natural Images",
    ),
}


def data_folder(data_dir: Path | None = None) -> Path:
    """Return the folder of the data sets: `data_dir`, or else `$BLROBUST_DATA`, or else the user's cache."""
    if data_dir is not None:
        return expanded(data_dir, "data_dir")
    if folder := os.environ.get(ENVIRONMENT):
        return expanded(folder, ENVIRONMENT)
    return platformdirs.user_cache_path("blrobust")


def default_name(data_dir: Path | None = None) -> str:
    """Return the name of the default data set: cifar10, or its bundled sample if cifar10 is missing."""
    return "cifar10" if NAMES["cifar10"].found(data_folder(data_dir)) else "cifar10-sample"


def find(name: str) -> Source:
    """Return a registered data set; raise `UserError` with the legal names for an unknown `name`."""
    if name not in NAMES:
        raise UserError(f"data set: got {name!r}; legal: {', '.join(NAMES)}, folder:PATH, npz:PATH")
    return NAMES[name]


def get_command(name: str, folder: Path) -> str:
    """Return the shell command that downloads a registered data set into `folder`."""
    return f"blrobust data get {name} --data-dir {shlex.quote(str(folder))}"
