"""A loaded model that can be measured, and the checks of its first logits."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from blconv import effective_compression
from blconv.convert import band_limited_layers
from blconv.summary import NetworkCompression
from blrobust.data.datasets import Dataset
from blrobust.data.given_images import NAME as GIVEN
from blrobust.data.image_files import COUNT_FROM_0
from blrobust.errors import UserError, describe, reason
from blrobust.models.card import ModelCard


@dataclass
class Model:
    """A loaded model that can be measured.

    `module` returns logits, float32 (batch, classes), of pixels, float32 (batch, C, H, W). Pixels are in [0,
    1], or exceed it if noise is not clipped. `card` has facts about the model for tables and for the record
    of a run.
    """

    label: str
    module: nn.Module
    card: ModelCard


def with_card(
    label: str, module: nn.Module, logits: torch.Tensor, origin: dict[str, Any], dataset: Dataset
) -> Model:
    """Return the model with its card (facts for tables and for the record of a run).

    `logits` are those of the first two images of the data set; `origin` has the fields of `ModelCard` that do
    not follow from `module`. Raises `UserError` if the model fails on images of the data set. Also raises
    `UserError` if the logits are not finite or do not have one column for each class.
    """
    check_logits(label, logits, dataset)
    network = NetworkCompression(())
    try:
        if band_limited_layers(module):
            pixels = dataset.pixels(slice(0, 2), logits.device)
            network = effective_compression(_OnImages(module, pixels), tuple(pixels.shape))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises
        raise failure(label, error, dataset) from error
    card = ModelCard(
        label=label,
        **origin,
        nominal_compression=max([layer.nominal or 0.0 for layer in network.layers], default=0.0),
        effective_compression=network.effective,
        fft_size="/".join(dict.fromkeys(str(layer.fft_size[0]) for layer in network.layers)) or None,
        parameters=sum(p.numel() for p in module.parameters()),
    )
    return Model(label, module, card)


class _OnImages(nn.Module):
    """A model that ignores its input and gets `pixels` (m, C, H, W), because a model may refuse zeros."""

    def __init__(self, module: nn.Module, pixels: torch.Tensor) -> None:
        super().__init__()
        self.module = module
        self._pixels = pixels

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """Return the logits of the pixels."""
        logits: torch.Tensor = self.module(self._pixels)
        return logits


def check_weights(label: str, module: nn.Module) -> None:
    """Raise `UserError` for a user's module whose weights are all on the meta device, without values.

    Modules with only some weights on the meta device are legal: a forward pass need not use all parts.
    """
    try:
        tensors = [*module.parameters(), *module.buffers()]
        is_empty = bool(tensors) and all(tensor.is_meta for tensor in tensors)
    except Exception:  # whatever the user's code raises; its forward pass fails as well
        return
    if is_empty:
        raise UserError(
            f"model {label!r}: got weights on the meta device, which have no values; legal: loaded weights"
        )


def first_logits(label: str, module: nn.Module, dataset: Dataset, device: torch.device) -> torch.Tensor:
    """Return the logits of the first two images of the data set.

    Raises `UserError` if `module` fails.
    """
    try:
        with torch.no_grad():
            logits: torch.Tensor = module(dataset.pixels(slice(0, 2), device))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises
        raise failure(label, error, dataset) from error
    return logits


def check_logits(label: str, logits: torch.Tensor, dataset: Dataset) -> None:
    """Raise `UserError` unless the logits of two images are finite and have one column for each class."""
    if tuple(logits.shape) != _logits_shape(dataset):
        raise wrong_output(label, tuple(logits.shape), dataset)
    if not torch.isfinite(logits).all():
        raise UserError(f"model {label!r} returns logits that are not finite on clean images")


def _logits_shape(dataset: Dataset) -> tuple[int, int]:
    return min(2, len(dataset)), len(dataset.classes)


def failure(label: str, error: BaseException, dataset: Dataset) -> UserError:
    """Return the error to raise for a model that has raised `error` on images of the data set."""
    shape = tuple(dataset.images.shape[1:])
    cause = error.__cause__ or error if isinstance(error, UserError) else error
    problem = reason(cause) if isinstance(cause, UserError) else describe(cause)
    return UserError(f"model {label!r} fails on images {shape}: {problem}")


def wrong_output(label: str, found: object, dataset: Dataset) -> UserError:
    """Return the error to raise for a model with an illegal output for two images.

    `found` is the shape or the type of the output.
    """
    wanted = _logits_shape(dataset)
    message = f"model {label!r} returns {found} for two images; {dataset.name} wants {wanted}"
    if found == (wanted[0], wanted[1] - 1) and int(dataset.labels.min()) > 0:
        message += f"; {COUNT_FROM_0}"
    elif isinstance(found, tuple) and len(found) == 2:
        message += _class_hint(dataset, found[1])
    return UserError(message)


def _class_hint(dataset: Dataset, outputs: int) -> str:
    """Return the end of the message for a model with `outputs` logits: how to give that number of classes.

    The text is empty if a label has no logit, and for data sets whose classes a user cannot give.
    """
    largest = int(dataset.labels.max())
    if largest >= outputs:
        return f"; the labels reach {largest}"
    if dataset.name == GIVEN:
        return f"; legal: classes={outputs}, or a model of {len(dataset.classes)} classes"
    if dataset.name.startswith("npz:"):
        return f"; legal: an array classes of {outputs} names in this file, or a model of its classes"
    if dataset.name.startswith("folder:"):
        return f"; legal: {outputs} sub-folders, one for each class, or a model of these classes"
    return ""
