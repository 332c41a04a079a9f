"""The subjects of a measurement: models and images, given by name or in Python, and the device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blrobust.data import datasets, given_images
from blrobust.data.datasets import Dataset
from blrobust.data.given_images import Classes
from blrobust.device import resolve
from blrobust.errors import UserError, shown
from blrobust.evaluation.arguments import check_range
from blrobust.models import model_names, zoo
from blrobust.models.callable_module import CallableModule, as_module
from blrobust.models.fingerprint import fingerprint
from blrobust.models.model import Model, check_weights
from blrobust.models.own_model import OwnModel
from blrobust.models.own_module import load_module

Data = Any  # as in `api.evaluate`
Models = str | nn.Module | Sequence[str] | Mapping[str, "nn.Module | str"]
Given = Any  # `Models`, with other callables in place of modules
LEGAL_MODELS = "legal: names, an nn.Module or another callable, or a dictionary from labels to these"
LEGAL_DATA = "legal: a name, a pair (images, labels), a torch data set, or the result of load_data"
ALONE = "model"  # the label of a module that is given without one
NOTE = "the user's own model, given as a module in Python: it cannot be loaded again from this run"


@dataclass(frozen=True)
class Subjects:
    """The models and the images of a measurement, and the device to compute on."""

    models: list[Model]
    dataset: Dataset
    device: torch.device


def load(
    *,
    models: Models,
    arch: str,
    data: Data,
    data_dir: Path | None,
    limit: int | None,
    device: str | torch.device,
    classes: Classes = None,
    note: Callable[[str], None] = lambda text: None,
) -> Subjects:
    """Load the models and images; `note` receives notes about the data.

    Raises `UserError` if a model, the data set or the device does not exist.
    """
    model_names.check_arch(arch)
    named = by_label(models)
    resolved = resolve(device)
    images = load_images(data, data_dir=data_dir, limit=limit, classes=classes, note=note)
    loaded: list[Model] = []
    checksums: list[str | None] = []
    for label, named_model in named.items():
        loaded.append(load_model(label, named_model, arch=arch, dataset=images, device=resolved))
        checksums.append(_checksum(loaded[-1]) if len(named) > 1 else None)
    check_distinct(loaded)
    for model, before in zip(loaded, checksums, strict=True):
        if len(loaded) > 1 and _checksum(model) != before:
            raise UserError(
                f"model {model.label!r}: its weights changed while another model was loaded; "
                "legal: models that do not change each other"
            )
    if model_names.classes_assumed(images) and any(m.card.dataset == "cifar10" for m in loaded):
        assumed = "the classes have no names: for CIFAR-10's models they are airplane (0) to truck (9)"
        images = replace(images, note=assumed)
    if images.note:
        note(images.note)
    return Subjects(loaded, images, resolved)


def check_distinct(models: Sequence[Model]) -> None:
    """Raise `UserError` if two functions that build the user's models returned the same module."""
    for first, second in combinations(models, 2):
        own, origins = _own(first), [first.card.arch, second.card.arch]
        if own is not None and own is _own(second) and origins[0] != origins[1]:
            raise UserError(
                f"models {first.label!r} and {second.label!r}: {' and '.join(map(str, origins))} returned "
                "the same module; legal: a module for each"
            )


def _own(model: Model) -> nn.Module | None:
    """Return the user's module in a model; None if there is none."""
    return next((part.module for part in model.module.modules() if isinstance(part, OwnModel)), None)


def _checksum(model: Model) -> str | None:
    """Return the checksum of the user's module in a model; None without a module or without a checksum."""
    module = _own(model)
    try:
        return None if module is None else fingerprint(module, exact=True)
    except Exception:  # whatever the user's class raises
        return None


def with_modules(models: Given) -> Any:
    """Return `models` with modules in place of functions and other callables (`as_module`)."""
    if isinstance(models, Mapping):
        return {label: with_modules(model) for label, model in models.items()}
    module = as_module(models)
    return models if module is None else module


def by_label(models: Models, *, alone: str = ALONE) -> dict[str, nn.Module | str]:
    """Return the models by their labels; a module without a label gets the label `alone`.

    Raises `UserError` for an illegal label, name or type.
    """
    if isinstance(models, nn.Module):
        return {alone: models}
    if isinstance(models, str):
        return {model_names.label_of(name): name for name in model_names.parse_names(models)}
    if isinstance(models, Sequence) and all(isinstance(name, str) for name in models):
        return by_label(model_names.join_names(models))
    if not isinstance(models, Mapping):
        raise UserError(f"models: got a {type(models).__name__}; {LEGAL_MODELS}")
    for label, model in models.items():
        if not isinstance(label, str) or not isinstance(model, nn.Module | str):
            raise UserError(f"models: got a {type(model).__name__} for {shown(label)}; {LEGAL_MODELS}")
    model_names.parse_names(model_names.join_names(f"{label}=" for label in models))
    return dict(models)


def load_model(
    label: str, model: nn.Module | str, *, arch: str, dataset: Dataset, device: torch.device
) -> Model:
    """Return a model with the label `label`; `model` is the user's module, or a name for `zoo.load`."""
    if isinstance(model, nn.Module):
        check_weights(label, model)
        kind = type(model)
        target = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(model, CallableModule):
            target = model.origin
        return load_module(label, model, target=target, dataset=dataset, device=device, note=NOTE)
    target = model.rpartition("=")[2].strip()
    if label == model_names.label_of(model):
        return zoo.load(model, arch=arch, dataset=dataset, device=device)
    if not model_names.is_plain(target):
        return zoo.load(f"{label}={target}", arch=arch, dataset=dataset, device=device)
    found = zoo.load(target, arch=arch, dataset=dataset, device=device)
    return replace(found, label=label, card=replace(found.card, label=label))


def load_one(argument: str, model: Models, *, arch: str, dataset: Dataset, device: torch.device) -> Model:
    """Return the single model given as the argument called `argument`, which is the label of a module."""
    named = by_label(model, alone=argument)
    if len(named) != 1:
        raise UserError(f"{argument}: got {shown(model)}; legal: one model")
    ((label, found),) = named.items()
    return load_model(label, found, arch=arch, dataset=dataset, device=device)


def load_images(
    data: Data,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    classes: Classes = None,
    split: str = "test",
    note: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Return the first `limit` images of `data`, by default of CIFAR-10.

    `note` is called with a text if `limit` exceeds the number of images. `classes`, for images given in
    Python, are the names or the number of the classes. Raises `UserError` for data that does not exist or is
    not legal.
    """
    by_name = data is None or isinstance(data, str | Dataset)
    if by_name and classes is not None:
        raise UserError("classes: got classes for data that has its own; legal: with tensors and arrays")
    check_range("limit", limit, 1, optional=True)
    if data is None:
        images = datasets.load_default(data_dir=data_dir)
    elif isinstance(data, Dataset):
        images = data
    elif isinstance(data, str):
        images = datasets.load(data, split=split, data_dir=data_dir)
    elif isinstance(data, torch.utils.data.Dataset):
        return datasets.given(given_images.from_dataset(data, limit=limit, classes=classes))
    elif isinstance(data, tuple | list) and len(data) == 2:
        images = datasets.given(given_images.from_arrays(*data, classes=classes))
    else:
        raise UserError(f"data: got a {type(data).__name__}; {LEGAL_DATA}")
    if limit is not None:
        if limit > len(images):
            note(f"limit: got {limit:,}; {images.name} has {len(images):,} images, and all are used")
        images = images.take(limit)
    return images
