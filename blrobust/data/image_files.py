"""The user's own labelled images, in one folder per class or in one `.npz` archive."""

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from blrobust import memory
from blrobust.data.labelled_images import MOST_LABELS, LabelledImages, check
from blrobust.data.npz_headers import Header, names, read_array, read_headers
from blrobust.errors import UserError, reason, shorten
from blrobust.regular_file import problem_of

# ending -> the format of Pillow. The format of a file is found from its content, but only these are tried:
# others run programs (Ghostscript for PostScript).
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF",
    ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM",
}  # fmt: skip
SUFFIXES = tuple(FORMATS)
FOLDER = "data set folder"  # its name in messages
GRAY_MODES = {"1", "L", "LA"}
CHANNELS = (1, 3)
ARRAYS = ("x", "y", "classes")
STATISTICS_BLOCK = 256  # images that are converted at once, to compute mean and standard deviation
FEW_BYTES = 2**20  # arrays up to this size are read before their shape is checked
MOST_NAME = 4 * 1000  # the most bytes of the name of a class
COUNT_FROM_0 = "no label is 0, and classes count from 0: subtract 1 from labels that begin with 1"


def read_folder(path: Path) -> LabelledImages:
    """Return the images of `path/CLASS/IMAGE`, in the order of their names, without hidden files.

    If all images are grey, they have one channel; otherwise all become RGB. Transparency is dropped. All
    images must have one size; they are not resized. Raises `UserError`, naming the file, for an image that
    cannot be read, has another size, or does not have 8 bits per channel.
    """
    if not path.is_dir():
        problem = "which is not a folder" if path.exists() else "which does not exist"
        raise UserError(f"{FOLDER}: got {path}, {problem}; legal: a folder of classes")
    folders = [entry for entry in _visible_entries(path) if entry.is_dir()]
    if not folders:
        raise UserError(f"{FOLDER}: got {path} without sub-folders; legal: one per class, with its images")
    if len(folders) > MOST_LABELS:
        raise UserError(f"{FOLDER}: got {path} with {len(folders)} sub-folders; legal: at most {MOST_LABELS}")
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        images = [entry for entry in _visible_entries(folder) if entry.suffix.lower() in SUFFIXES]
        if not images:
            raise UserError(f"{FOLDER}: got {folder} without images; legal: files in {', '.join(SUFFIXES)}")
        for image in images:
            other = problem_of(image)
            if other is not None:
                raise UserError(f"{FOLDER}: got {image}, {other}; legal: files in {', '.join(SUFFIXES)}")
        files += images
        labels += [label] * len(images)
    names = tuple(folder.name for folder in folders)
    data = LabelledImages(_decode(files), torch.tensor(labels), names)
    check(data, images=str(path), labels=str(path))
    return data


def _visible_entries(folder: Path) -> list[Path]:
    # By name, not by Path, whose order depends on the operating system.
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return [entry for entry in entries if not entry.name.startswith(".")]


def _decode(files: list[Path]) -> torch.Tensor:
    """Return the images in `files`, which must have one size, as uint8 (n, C, H, W)."""
    # Headers first: sizes are compared before anything is decoded, and the pixels of the whole
    # set are in memory only once.
    headers = [_image(file, mode=None) for file in files]
    width, height = headers[0].size
    for file, header in zip(files, headers, strict=True):
        if header.size != (width, height):
            raise UserError(
                f"{file}: got {header.width}x{header.height} pixels; legal: {width}x{height}, the size of "
                f"{files[0]}"
            )
        if header.mode.startswith(("I", "F")):
            raise UserError(f"{file}: got more than 8 bits per channel ({header.mode}); legal: 8 bits")
    mode = "L" if all(header.mode in GRAY_MODES for header in headers) else "RGB"
    shape = (len(files), len(mode), height, width)
    check_memory(f"images in {files[0].parent.parent}", shape, size=1)
    pixels = np.empty(shape, dtype=np.uint8)
    for row, file in zip(pixels, files, strict=True):
        image = np.asarray(_image(file, mode=mode))
        row[:] = image.reshape(height, width, len(mode)).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


def _image(file: Path, *, mode: str | None) -> Image.Image:
    """Return the image in `file`, converted to Pillow's `mode`; None means that only the header is read.

    Raises `UserError` for a file that is not in one of `FORMATS`, that is damaged, or whose size is above the
    limit of Pillow (89 million pixels).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=sorted({*FORMATS.values()})) as image:
                return image if mode is None else image.convert(mode)
    except UnidentifiedImageError:
        legal = ", ".join(dict.fromkeys(FORMATS.values()))
        raise UserError(f"{file} cannot be read as an image; legal: {legal}") from None
    except Exception as error:  # every format of Pillow raises its own errors for damaged bytes
        raise UserError(f"{file} cannot be read as an image: {reason(error)}") from error


def read_npz(path: Path) -> LabelledImages:
    """Return the images, labels and class names in an archive, its arrays `x`, `y` and (optional) `classes`.

    `x` is uint8 or float in [0, 1], of shape (n, H, W), (n, H, W, C) or (n, C, H, W), where C is 1 or 3. `y`
    contains integers, of shape (n,) or (n, 1). Nothing is unpickled. Raises `UserError` for other arrays and
    for a file that cannot be read.
    """
    arrays = _arrays(path)
    images = _channels_first(path, arrays["x"])
    if images.dtype != np.uint8:
        if images.dtype.kind != "f":
            raise UserError(f"x in {path}: got {images.dtype}; legal: uint8, or float in [0, 1]")
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise UserError(f"x in {path}: got values from {low:g} to {high:g}; legal: floats in [0, 1]")
        images = images.astype(np.float32)
    labels = arrays["y"]
    if labels.dtype.kind not in "iu" or labels.shape not in {(len(images),), (len(images), 1)}:
        raise UserError(
            f"y in {path}: got {labels.dtype} of shape {labels.shape}; legal: {len(images)} integers, one "
            "per image"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_LABELS:
        raise UserError(f"y in {path}: got labels from {low} to {high}; legal: 0 to {MOST_LABELS - 1}")
    data = LabelledImages(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(labels.reshape(-1).astype(np.int64)),
        _class_names(path, arrays.get("classes"), low, high),
    )
    check(data, images=f"x in {path}", labels=f"y in {path}")
    return data


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if problem := problem_of(path):
        raise UserError(f"npz: got {path}, {problem}; legal: an .npz archive")
    if not zipfile.is_zipfile(path):
        raise UserError(f"npz: got {path}, which is damaged or of another format; legal: an .npz archive")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            headers = read_headers(archive, ARRAYS)
            if not {"x", "y"} <= headers.keys():
                found = shorten(", ".join(names(archive))) or "no arrays"
                raise UserError(f"npz: got {path} with {found}; legal: x and y")
            _check_headers(path, headers)
            return {name: read_array(archive, header) for name, header in headers.items()}
    except (UserError, MemoryError):
        raise
    except Exception as error:  # zip, compression and header damage each raise their own errors
        raise UserError(f"{path} cannot be read as an .npz archive: {shorten(reason(error))}") from error


def _check_headers(path: Path, headers: dict[str, Header]) -> None:
    """Raise `UserError` for arrays that cannot be images and labels, or are too large, before unpacking."""
    x = headers["x"]
    check_memory(f"x in {path}", x.shape, size=x.dtype.itemsize)
    for name, header in headers.items():
        if name == "classes" and header.dtype.itemsize > MOST_NAME:
            size = f"names of {header.dtype.itemsize:,} bytes"
            raise UserError(f"classes in {path}: got {size}; legal: at most {MOST_NAME:,} bytes each")
        most = MOST_NAME * MOST_LABELS if name == "classes" else 8 * math.prod(x.shape[:1])
        if name != "x" and header.bytes > max(most, FEW_BYTES):
            raise UserError(
                f"{name} in {path}: got {header.dtype} of shape {header.shape}; legal: one per "
                + ("class" if name == "classes" else f"image, of which x has {math.prod(x.shape[:1])}")
            )


def check_memory(name: str, shape: tuple[int, ...], *, size: int) -> None:
    """Raise `UserError` if images of `shape` (n, ...) do not fit into memory.

    `size` is the number of bytes of a value, and `name` describes the images in the message. The needed
    memory includes a float32 copy of images that are not bytes, and three float64 copies of a part of the
    images, for their mean and standard deviation.
    """
    values = math.prod(shape)
    of_block = values // max(1, shape[0]) * min(shape[0], STATISTICS_BLOCK) if shape else 0
    needed = values * (size if size == 1 else size + 4) + 3 * 8 * of_block
    memory.check(needed, f"{name}, {' x '.join(map(str, shape))}", legal="fewer or smaller images")


def _channels_first(path: Path, images: NDArray[Any]) -> NDArray[Any]:
    """Return the images as (n, C, H, W), without a copy; raise `UserError` for other shapes or no pixels."""
    legal = "legal: (n, H, W), (n, H, W, C) or (n, C, H, W) with C 1 or 3"
    if images.size == 0:
        raise UserError(f"x in {path}: got shape {images.shape}, which has no pixels; {legal}")
    if images.ndim == 3:
        return images[:, None]
    first = images.ndim == 4 and images.shape[1] in CHANNELS
    last = images.ndim == 4 and images.shape[3] in CHANNELS
    if first == last:
        problem = ", which could be two of them" if first else ""
        raise UserError(f"x in {path}: got shape {images.shape}{problem}; {legal}")
    return images if first else images.transpose(0, 3, 1, 2)


def _class_names(path: Path, names: NDArray[Any] | None, low: int, high: int) -> tuple[str, ...]:
    """Return the names of the classes in the file `path`; without `names`, they are the numbers as text.

    `low` and `high` are the smallest and the largest label. Raises `UserError` if `names` is not an array of
    texts, or has fewer entries than labels from 0 to `high`.
    """
    least = high + 1
    if names is None:
        return tuple(str(label) for label in range(least))
    if names.dtype.kind != "U" or names.ndim != 1 or len(names) < least:
        raise UserError(
            f"classes in {path}: got {names.dtype} of shape {names.shape}; legal: at least {least} texts, "
            "one per label" + (f"; {COUNT_FROM_0}" if low > 0 and len(names) == high else "")
        )
    return tuple(str(name) for name in names)
