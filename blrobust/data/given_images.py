"""Images and labels that are given in Python: tensors, arrays, or a torch data set."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from blrobust.data.labelled_images import MOST_LABELS, LabelledImages, check
from blrobust.errors import UserError, describe, shown

NAME = "arrays"  # the name of such a data set in results
CHANNELS = (1, 3)

Classes = int | Sequence[str] | None


def from_arrays(images: Any, labels: Any, *, classes: Classes = None) -> LabelledImages:
    """Return images (n, C, H, W), uint8 or float in [0, 1], and integer labels (n,) as `LabelledImages`.

    Images and labels are tensors on any device, or arrays. `classes` are the names or the number of the
    classes; the default is the largest label plus 1. Raises `UserError` for other types, shapes and values.
    """
    pixels = _checked_images(_tensor(images, "images"))
    integers = _tensor(labels, "labels")
    if integers.is_floating_point() or integers.is_complex() or integers.dtype == torch.bool:
        raise UserError(f"data: got labels of type {_dtype(integers)}; legal: integers")
    if tuple(integers.shape) not in {(len(pixels),), (len(pixels), 1)}:
        raise UserError(
            f"data: got labels of shape {tuple(integers.shape)}; legal: ({len(pixels)},), one per image"
        )
    integers = integers.reshape(-1).to(torch.int64)
    least = int(integers.max()) + 1
    names = _names(classes, least)
    if classes is not None and len(names) < least:
        raise UserError(f"classes: got {len(names)} for labels up to {least - 1}; legal: {least} or more")
    data = LabelledImages(pixels, integers, names)
    check(data, images="data", labels="data")
    return data


def from_dataset(
    dataset: "TorchDataset[Any]", *, limit: int | None = None, classes: Classes = None
) -> LabelledImages:
    """Return the first `limit` pairs (image, label) of a torch data set with a length, by default all.

    An image is a tensor or array (C, H, W), uint8 or float in [0, 1], or a Pillow image; all have one size.
    The default of `classes` are the class names of the data set. Raises `UserError` for other items, and if
    the code of the data set fails.
    """
    try:
        count = len(dataset)  # type: ignore[arg-type]  # of a torch data set with a length
    except TypeError:
        raise UserError(f"data: got a {type(dataset).__name__} without a length; legal: one with") from None
    images: list[Tensor] = []
    labels: list[int] = []
    for index in range(count if limit is None else min(count, limit)):
        try:
            image, label = dataset[index][:2]
            images.append(_image(image))
            labels.append(int(label))
        except Exception as error:  # whatever the user's code raises
            raise UserError(f"data: item {index} is not (image, label): {describe(error)}") from error
        if (images[-1].shape, images[-1].dtype) != (images[0].shape, images[0].dtype):
            raise UserError(
                f"data: got image {index} of type {_dtype(images[-1])} and shape {tuple(images[-1].shape)}; "
                f"legal: {_dtype(images[0])} of shape {tuple(images[0].shape)}, as image 0"
            )
    if not images:
        raise UserError("data: got a data set without images; legal: at least one")
    named = _named_classes(dataset) if classes is None else classes
    return from_arrays(torch.stack(images), torch.tensor(labels), classes=named)


def _tensor(values: Any, name: str) -> Tensor:
    """Return a tensor on the CPU with the values; memory of an array is shared where possible."""
    if isinstance(values, np.ma.MaskedArray):
        raise UserError(f"data: got {name} with a mask, which would be ignored; legal: arrays without one")
    if isinstance(values, Tensor):
        if special := _special(values):
            raise UserError(f"data: got {name} in a {special} tensor; legal: dense tensors with values")
        return values.detach().cpu()
    try:
        array = np.asarray(values)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except Exception as error:  # of values of any type
        raise UserError(f"data: the {name} are not an array: {describe(error)}") from error


def _special(tensor: Tensor) -> str | None:
    """Return the kind of a tensor that has no values or is not dense, in words; None for other tensors."""
    kinds = {"meta": tensor.is_meta, "nested": tensor.is_nested, "quantized": tensor.is_quantized}
    kinds[str(tensor.layout).removeprefix("torch.")] = tensor.layout != torch.strided
    return next((kind for kind, is_so in kinds.items() if is_so), None)


def _checked_images(images: Tensor) -> Tensor:
    """Return the images, uint8 or float32 (n, C, H, W); raise `UserError` for others."""
    shape = tuple(images.shape)
    if images.ndim != 4 or not images.numel():
        raise UserError(f"data: got images of shape {shape}; legal: (n, C, H, W)")
    if shape[1] not in CHANNELS and shape[3] in CHANNELS:
        raise UserError(f"data: got images of shape {shape}; legal: (n, C, H, W), the channels first")
    if images.dtype == torch.uint8:
        return images.contiguous()
    if not images.is_floating_point():
        raise UserError(f"data: got images of type {_dtype(images)}; legal: uint8, or float in [0, 1]")
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise UserError(
            f"data: got values from {low:g} to {high:g}; legal: floats in [0, 1] (a model normalises them)"
        )
    return images.to(torch.float32).contiguous()


def _image(image: Any) -> Tensor:
    """Return an image of a torch data set as a tensor (C, H, W)."""
    if isinstance(image, Tensor | np.ndarray):
        return _tensor(image, "images")
    array = np.array(image)  # of Pillow: (H, W) or (H, W, C)
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


def _names(classes: Classes, least: int) -> tuple[str, ...]:
    if classes is None:
        return tuple(map(str, range(max(1, least))))
    if isinstance(classes, int) and not isinstance(classes, bool):
        if not 1 <= classes <= MOST_LABELS:
            raise UserError(f"classes: got {shown(classes)}; legal: 1 to {MOST_LABELS}, or names")
        return tuple(map(str, range(classes)))
    if isinstance(classes, str | bytes | bool | set | frozenset) or not isinstance(classes, Collection):
        raise UserError(f"classes: got {shown(classes)}; legal: 1 to {MOST_LABELS}, or a list of names")
    return tuple(map(str, classes))


def _named_classes(dataset: Any) -> Classes:
    """Return the class names of a torch data set, or of the data set of which it is a subset, or None."""
    while dataset is not None:
        names = getattr(dataset, "classes", None)
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
        dataset = getattr(dataset, "dataset", None)
    return None


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
