"""The user's own labelled images: one folder per class, or one ``.npz`` archive."""

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from blrobust.errors import UserError, reason

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
GRAY_MODES = {"1", "L", "LA"}
CHANNELS = (1, 3)
MOST_LABELS = 2**15  # results store labels and predictions as int16


class LabelledImages(NamedTuple):
    """Images uint8, or float32 in [0, 1], (n, C, H, W); labels int64 (n,); one name per class."""

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]


def read_folder(path: Path) -> LabelledImages:
    """Read ``path/CLASS/IMAGE``: classes and images in the order of their names, hidden ones left out.

    Images keep one channel where all of them are gray and become RGB otherwise; transparency is
    dropped. Raises UserError naming the file that is unreadable, of another size or not 8-bit.
    """
    if not path.is_dir():
        raise UserError(f"there is no folder {path}")
    folders = [entry for entry in _visible(path) if entry.is_dir()]
    if not folders:
        raise UserError(f"{path} has no sub-folders: it needs one per class, with its images inside")
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = [entry for entry in _visible(folder) if entry.suffix.lower() in SUFFIXES]
        if not found:
            raise UserError(f"{folder} has no images: a class needs files in {', '.join(SUFFIXES)}")
        files += found
        labels += [label] * len(found)
    return LabelledImages(_decode(files), torch.tensor(labels), tuple(folder.name for folder in folders))


def _visible(folder: Path) -> list[Path]:
    # By name, not by Path, whose order depends on the operating system.
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return [entry for entry in entries if not entry.name.startswith(".")]


def _decode(files: list[Path]) -> torch.Tensor:
    """Decode images of one size into uint8 (n, C, H, W)."""
    # Headers first: sizes are compared before anything is decoded, and the pixels of the whole
    # set exist only once in memory.
    headers = [_image(file, mode=None) for file in files]
    width, height = headers[0].size
    for file, header in zip(files, headers, strict=True):
        if header.size != (width, height):
            raise UserError(
                f"{file} is {header.width}x{header.height} pixels and {files[0]} is "
                f"{width}x{height}: all images need the same size"
            )
        if header.mode.startswith(("I", "F")):
            raise UserError(f"{file} has more than 8 bits a channel ({header.mode}): save it as 8-bit")
    mode = "L" if all(header.mode in GRAY_MODES for header in headers) else "RGB"
    pixels = np.empty((len(files), len(mode), height, width), dtype=np.uint8)
    for row, file in zip(pixels, files, strict=True):
        image = np.asarray(_image(file, mode=mode))
        row[:] = image.reshape(height, width, len(mode)).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


def _image(file: Path, *, mode: str | None) -> Image.Image:
    """Open ``file`` and convert it to ``mode``; only the header is read where that is None."""
    try:
        with Image.open(file) as image:
            return image if mode is None else image.convert(mode)
    except Exception as error:  # every format of Pillow fails in its own way on damaged bytes
        raise UserError(f"{file} cannot be read as an image: {reason(error)}") from error


def read_npz(path: Path) -> LabelledImages:
    """Read ``x`` (images), ``y`` (labels) and, where there, ``classes`` (names) from an archive.

    ``x`` is uint8 or float in [0, 1], shaped (n, H, W), (n, H, W, C) or (n, C, H, W) with C 1 or 3;
    ``y`` holds integers, shaped (n,) or (n, 1). Nothing is unpickled. Raises UserError.
    """
    arrays = _arrays(path)
    images = _channels_first(path, arrays["x"])
    if images.dtype != np.uint8:
        if images.dtype.kind != "f":
            raise UserError(f"x in {path} is {images.dtype}: it must be uint8 or float in [0, 1]")
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise UserError(f"x in {path} runs from {low:g} to {high:g}: floats must be in [0, 1]")
        images = images.astype(np.float32)
    labels = arrays["y"]
    if labels.dtype.kind not in "iu" or labels.shape not in {(len(images),), (len(images), 1)}:
        raise UserError(
            f"y in {path} is {labels.dtype} of shape {labels.shape}: it must hold "
            f"{len(images)} integers, one per image"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_LABELS:
        raise UserError(f"y in {path} runs from {low} to {high}: labels are 0 to {MOST_LABELS - 1}")
    return LabelledImages(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(labels.reshape(-1).astype(np.int64)),
        _class_names(path, arrays.get("classes"), high + 1),
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not an .npz archive, or it is cut short")
    try:
        # The file is opened here, because np.load leaves it open when it fails.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.files)
            arrays = {name: archive[name] for name in ("x", "y", "classes") if name in names}
    except Exception as error:  # zip, compression and header damage each raise their own errors
        raise UserError(f"{path} cannot be read as an .npz archive: {reason(error)}") from error
    if not {"x", "y"} <= arrays.keys():
        raise UserError(f"{path} holds {', '.join(names) or 'nothing'}: it must hold x and y")
    return arrays


def _channels_first(path: Path, images: NDArray[Any]) -> NDArray[Any]:
    """Bring images to (n, C, H, W) without copying."""
    if images.size == 0:
        raise UserError(f"x in {path} has shape {images.shape}: it holds no pixels")
    if images.ndim == 3:
        return images[:, None]
    first = images.ndim == 4 and images.shape[1] in CHANNELS
    last = images.ndim == 4 and images.shape[3] in CHANNELS
    if first == last:
        problem = "could be both" if first else "is neither"
        raise UserError(
            f"x in {path} has shape {images.shape}, which {problem} (n, H, W, C) "
            f"{'and' if first else 'nor'} (n, C, H, W) with 1 or 3 channels"
        )
    return images if first else images.transpose(0, 3, 1, 2)


def _class_names(path: Path, names: NDArray[Any] | None, least: int) -> tuple[str, ...]:
    if names is None:
        return tuple(str(label) for label in range(least))
    if names.dtype.kind != "U" or names.ndim != 1 or len(names) < least:
        raise UserError(
            f"classes in {path} is {names.dtype} of shape {names.shape}: it must hold at least "
            f"{least} texts, one per label"
        )
    return tuple(str(name) for name in names)
