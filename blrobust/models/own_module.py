"""Loading of a module of the user's own as a model."""

from collections.abc import Collection
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError, describe
from blrobust.models.fingerprint import fingerprint, scratch_digests
from blrobust.models.kept_state import kept_state
from blrobust.models.model import Model, failure, with_card, wrong_output
from blrobust.models.output_logits import NoLogitsError
from blrobust.models.own_model import OwnModel, odd_dtypes, own_state_kept, place
from blrobust.models.own_precision import precision_of
from blrobust.perturbations.seeding import unchanged

NOTE = "the user's own model"


def load_module(
    label: str,
    module: nn.Module,
    *,
    target: str,
    dataset: Dataset,
    device: torch.device,
    note: str = NOTE,
    default_dtype: torch.dtype | None = None,
) -> Model:
    """Return the user's `module`, put on `device` and into evaluation mode, as a model for `dataset`.

    `target` names the origin of the module in its card, and `note` is the note of the card. The module is
    called with `default_dtype` as torch's default dtype, by default the current one. Raises `UserError` if
    the module fails on images of the data set or does not return a logit for each class. The states of the
    global random generators do not change.
    """
    try:
        with unchanged(device):
            return _load(label, module, target, dataset, device, note, default_dtype)
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:  # whatever the user's code raises
        raise failure(label, error, dataset) from error


def _load(
    label: str,
    module: nn.Module,
    target: str,
    dataset: Dataset,
    device: torch.device,
    note: str,
    default_dtype: torch.dtype | None,
) -> Model:
    place(module, device)
    kinds = (False, True) if odd_dtypes(module) else (False,)
    digests = [_fingerprint(module, exact=exact) for exact in kinds]  # before a pass changes the module
    given = odd_dtypes(module)
    own = OwnModel(module, label, len(dataset.classes))
    own.default_dtype = default_dtype or own.default_dtype
    pixels = dataset.pixels(slice(0, 2), device)
    try:
        logits = own.fit(pixels)
    except NoLogitsError as error:
        raise wrong_output(label, error.found, dataset) from error
    odd = odd_dtypes(module)
    digest = digests[-1 if odd else 0]
    written = _written(own, pixels)
    if written:  # the content of scratch memory is another one in each process
        digest = _fingerprint(module, exact=bool(odd), skip=written)
    if isinstance(digest, Exception):
        digest = _fingerprint(module, exact=bool(odd))
    if isinstance(digest, Exception):
        raise UserError(f"model {label!r}: the weights of {target} cannot be read: {describe(digest)}")
    precision = f", in {_names(odd)}" if odd else f", converted from {_names(given)}" if given else ""
    origin: dict[str, Any] = {
        "arch": target,
        "precision": precision_of(module),
        "dataset": None,
        "checkpoint": None,
        "sha256": digest,
        "test_accuracy": None,
        "seed": None,
        "recipe": {},
        "note": f"{note}{precision}",
    }
    with kept_state(module):
        return with_card(label, own, logits, origin, dataset)


def _names(dtypes: list[torch.dtype]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _written(own: OwnModel, pixels: torch.Tensor) -> list[str]:
    """Return the names of tensors outside the state dict of the user's module that a pass writes."""
    before = scratch_digests(own.module)
    if not before:
        return []
    with suppress(Exception), own_state_kept(own), torch.no_grad():
        own.logits(pixels if own.most != 1 else pixels[:1])
        after = scratch_digests(own.module)
        return [name for name, digest in before.items() if after.get(name) != digest]
    return []


def _fingerprint(module: nn.Module, *, exact: bool, skip: Collection[str] = ()) -> str | Exception:
    """Return the checksum of a user's own module, or the error if its weights cannot be read (yet)."""
    try:
        return fingerprint(module, exact=exact, skip=skip)
    except Exception as error:  # lazy parameters, states of another kind
        return error
