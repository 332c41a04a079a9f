"""Labelled images: the registered data sets, the bundled sample, and the user's own images."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from blrobust.data.given_images import NAME as GIVEN
from blrobust.data.image_files import STATISTICS_BLOCK, read_folder, read_npz
from blrobust.data.labelled_images import LabelledImages
from blrobust.data.registry import NAMES as NAMES
from blrobust.data.registry import data_folder, default_name, get_command
from blrobust.data.sources import read
from blrobust.errors import UserError
from blrobust.escaping import unicode_text
from blrobust.user_paths import expanded

READERS = {"folder": read_folder, "npz": read_npz}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (n, C, H, W), uint8 or float32 in [0, 1], and labels int64 (n,), all on the CPU.

    `mean` and `std` have a value for each colour channel, in units of pixels in [0, 1], and define the
    normalised input space. `note` is a line of text for the user, for example that the sample is used in
    place of the whole data set.
    """

    name: str
    split: str
    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    note: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.images.shape[1:]))
        kind = str(self.images.dtype).removeprefix("torch.")
        count = f"{len(self):,} image{'' if len(self) == 1 else 's'} of {size} {kind}"
        return f"<{self.name}, {self.split}: {count}, {len(self.classes):,} classes>"

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the shape and data type of the images, their bytes, and the bytes of the labels."""
        digest = hashlib.sha256(f"{self.images.dtype} {tuple(self.images.shape)}".encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def pixels(
        self, rows: slice | list[int] | torch.Tensor, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Return the images in `rows` as float32 (m, C, H, W) in [0, 1] on `device`."""
        # A copy, so that the caller may write to it; copied before the conversion, because bytes are smaller.
        pixels = self.images[rows].to(device, copy=True).float()
        if self.images.dtype != torch.uint8:
            return pixels
        # The divisor is on the device: CUDA replaces a division by a Python number by a product with
        # its rounded reciprocal, which changes the last bit.
        return pixels.div_(torch.full((), 255.0, device=pixels.device))

    def take(self, limit: int) -> "Dataset":
        """Return the data set of the first `limit` images, or of all images if there are fewer.

        Raises `UserError` if `limit` is below 1.
        """
        if limit < 1:
            raise UserError(f"limit: got {limit}; legal: 1 or more")
        return replace(self, images=self.images[:limit], labels=self.labels[:limit])


def load(name: str, *, split: str = "test", data_dir: Path | None = None) -> Dataset:
    """Return a registered data set by its name, or the user's images in `folder:PATH` or `npz:PATH`.

    Nothing is downloaded. Raises `UserError` if the name or the split is unknown, or if the data is missing
    or damaged.
    """
    scheme, colon, path = name.partition(":")
    if colon and scheme in READERS:
        return _load_own(name, split, READERS[scheme], path)
    data = read(name, split, data_dir=data_dir)
    note = "cifar10-sample: the first 1,000 test images of cifar10" if name == "cifar10-sample" else None
    return Dataset(name, split, *data, NAMES[name].mean, NAMES[name].std, note)


def load_default(*, data_dir: Path | None = None) -> Dataset:
    """Return the test images of cifar10, or cifar10-sample with a note if cifar10 is missing."""
    name, folder = default_name(data_dir), data_folder(data_dir)
    if name == "cifar10":
        return load(name, data_dir=data_dir)
    note = (
        f"cifar10 is not in {folder}: using cifar10-sample, its first 1,000 test images. "
        f"For all 10,000 run: {get_command('cifar10', folder)}"
    )
    return replace(load(name), note=note)


def given(data: LabelledImages) -> Dataset:
    """Return the data set made of `data`, images that the user gave in Python."""
    mean, std = _statistics("data", data.images)
    return Dataset(GIVEN, "test", *data, mean, std)


def _load_own(name: str, split: str, reader: Callable[[Path], LabelledImages], path: str) -> Dataset:
    if not path:
        raise UserError(f"data set: got {name!r}; legal: {name}PATH")
    if split != "test":
        raise UserError(f"split: got {split!r} for {name}; legal: test, as for all sets of the user's own")
    data = reader(expanded(path, f"data set {name.partition(':')[0]}"))
    mean, std = _statistics(name, data.images)
    return Dataset(unicode_text(name), split, *data, mean, std)  # tables cannot have other names


def _statistics(name: str, images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of every channel, in units of pixels in [0, 1].

    Raises `UserError` if a channel has the same value in every pixel; its message starts with `name`.
    """
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    # A float64 copy of the whole set would be eight times its size.
    for block in torch.split(images, STATISTICS_BLOCK):
        values = block.double() / scale
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
    count = images.numel() / images.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    if std.min() < 1e-6:
        raise UserError(f"{name}: a channel has the same value in every pixel; legal: images that vary")
    return tuple(mean.tolist()), tuple(std.tolist())
