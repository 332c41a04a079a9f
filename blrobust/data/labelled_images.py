"""Images with their labels, as every reader returns them, and the check that all of them pass."""

from typing import NamedTuple

import torch

from blrobust.errors import UserError

MOST_LABELS = 2**15  # results store labels and predictions as int16
DTYPES = (torch.uint8, torch.float32)


class LabelledImages(NamedTuple):
    """Images uint8, or float32 in [0, 1], (n, C, H, W); labels int64 (n,); one name per class."""

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]


def check(
    data: LabelledImages,
    *,
    images: str,
    labels: str,
    count: int | None = None,
    shape: tuple[int, ...] | None = None,
    classes: int | None = None,
) -> None:
    """Raise `UserError` if images or labels have an illegal type or shape, or if a label has no class.

    `images` and `labels` name the images and the labels in messages, for example by their files. `count`,
    `shape` (C, H, W) and `classes` are the legal number of images, shape of an image, and number of classes.
    By default, there must be an image for each label, of any shape (C, H, W), and at most `MOST_LABELS`
    classes.
    """
    found = tuple(data.images.shape)
    wanted = (len(data.labels) if count is None else count, *(found[1:] if shape is None else shape))
    if data.images.dtype not in DTYPES or found != wanted or len(found) != 4 or not data.images.numel():
        raise UserError(
            f"{images}: got images of type {_name(data.images)} and shape {found}; legal: uint8 or float32 "
            f"of shape {wanted}"
        )
    if data.labels.dtype != torch.int64 or data.labels.shape != (len(data.images),):
        raise UserError(
            f"{labels}: got labels of type {_name(data.labels)} and shape {tuple(data.labels.shape)}; legal: "
            f"int64 of shape ({len(data.images)},), one per image"
        )
    check_range(data.labels, labels, len(data.classes) if classes is None else classes)
    if not len(data.classes) <= MOST_LABELS or classes not in (None, len(data.classes)):
        legal = f"1 to {MOST_LABELS}" if classes is None else classes
        raise UserError(f"{labels}: got {len(data.classes)} classes; legal: {legal}")


def check_range(labels: torch.Tensor, name: str, classes: int) -> None:
    """Raise `UserError` for a label outside 0 to `classes` - 1; `name` is the name of `labels` (n,)."""
    outside = ((labels < 0) | (labels >= classes)).nonzero()
    if len(outside):
        place = int(outside[0])
        raise UserError(
            f"{name}: got label {int(labels[place])} for image {place}; legal: 0 to {classes - 1}, one for "
            "each class"
        )


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
