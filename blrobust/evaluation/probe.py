"""The probe of the models of a run: their logits for a few fixed inputs, and reasons to doubt the logits."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.errors import UserError
from blrobust.evaluation.doubts import BATCH, differ, doubts
from blrobust.evaluation.probe_passes import first_logits, logits_of
from blrobust.models.batches import InParts
from blrobust.models.classifier import Classifier
from blrobust.models.code_digest import code_digest
from blrobust.models.own_model import OwnModel, own_state_kept
from blrobust.models.zoo import Model
from blrobust.perturbations.base import block_size
from blrobust.perturbations.random_numbers import fixed_noise
from blrobust.runs.answers import CODE, RANDOM, Answers, distance

IMAGES = 16  # clean images at most; fewer if they are large, so that a probe takes less than 2 s on a CPU
VALUES = 2**19  # values in the clean images at most, but always two images
NOISE = (0.03, 0.1, 0.4)  # standard deviations of the noise, for one image after another, in pixel units
PARTS = 3  # equal parts of `inputs`
ROUNDING = 1e-6  # standard deviation of noise of the size of rounding errors, in pixel units


def probe(
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    *,
    source: Model | None = None,
    gradients: bool = False,
) -> dict[str, Any]:
    """Return the answers of models, which identify them, as a JSON dict for the record of a run.

    The answers are the logits of each model and of `source`, the model on which attacks run
    (`runs.answers.Answers`). With `gradients`, they include the gradients (`runs.gradients.Gradients`) of
    `source`, or of all models if there is no source.

    A model that fails on images with noise has answers for the other images only. The measurement then
    reports the level at which the model fails. Raises `UserError` if a model fails even on the first two
    images.
    """
    pixels = inputs(dataset, device)
    answers: dict[str, Any] = {}
    with full_precision():
        for name, model in _named(models, source).items():
            found = _answers(model.label, model.module, pixels)
            answers[name] = found.encode() | _code(model.module)
            if gradients and (source is None or model is source):
                from blrobust.evaluation.gradient_probe import gradient_answers  # noise needs no attacks

                taken = pixels[: len(found.logits)]
                with own_state_kept(model.module):
                    answers[name] |= gradient_answers(
                        model.module, taken, rounded(taken), len(pixels) // PARTS
                    )
    return answers


def _code(model: nn.Module) -> dict[str, str]:
    """Return a dict with the checksum of the code of the user's module; empty for models without one."""
    modules = [part.module for part in model.modules() if isinstance(part, OwnModel)]
    try:
        return {CODE: "".join(map(code_digest, modules))} if modules else {}
    except Exception:  # whatever the user's objects raise; the run is then compared by the answers alone
        return {}


def find_flags(
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    answers: Mapping[str, Any],
    *,
    source: Model | None = None,
) -> dict[str, list[str]]:
    """Return the reasons to doubt each model and the source (`doubts`); none for blrobust's own networks.

    `answers` are those of `probe`.
    """
    pixels = inputs(dataset, device)
    found: dict[str, list[str]] = {}
    with full_precision():
        for name, model in _named(models, source).items():
            given = Answers.decode(answers[name])
            found[name] = []
            if not _is_classifier(model.module):
                found[name] = doubts(model.module, pixels[: len(given.logits)], given)
                if not found[name] and _depends_on_block(
                    model.module, dataset, device, given, clean=len(pixels) // PARTS
                ):
                    found[name] = [BATCH]
    flags = {model.label: found[model.label] for model in models}
    if source is not None:
        _flag_source(flags, found[_source_name(source)])
    return flags


def _named(models: Sequence[Model], source: Model | None) -> dict[str, Model]:
    """Return the models and the source by their names in the answers of a run."""
    named = {model.label: model for model in models}
    return named if source is None else named | {_source_name(source): source}


def _source_name(source: Model) -> str:
    return f"--source {source.label}"


def _flag_source(flags: dict[str, list[str]], found: list[str]) -> None:
    """Add reasons to doubt the source to the flags of all models, because attacks run on the source."""
    for of_model in flags.values():
        of_model += [flag for doubt in found if (flag := f"source: {doubt}") not in of_model]


def inputs(dataset: Dataset, device: torch.device) -> Tensor:
    """Return the inputs of a probe: three parts of equal length, float32 (m, C, H, W), on `device`.

    The parts are the first images of the data set, the same images with Gaussian noise clipped to [0, 1], and
    the same images with noise that is not clipped. The last part is like the noise in normalised space. Some
    models fail on it.
    """
    shape = tuple(dataset.images.shape[1:])
    count = min(len(dataset), IMAGES, max(2, VALUES // int(np.prod(shape))))
    clean = dataset.pixels(slice(0, count), device)
    scale = clean.new_tensor([NOISE[i % len(NOISE)] for i in range(count)])
    noisy = clean + scale.view(-1, 1, 1, 1) * fixed_noise(clean)
    return torch.cat([clean, noisy.clamp(0, 1), noisy])


def _depends_on_block(
    model: nn.Module, dataset: Dataset, device: torch.device, answers: Answers, *, clean: int
) -> bool:
    """Return whether logits change in the first block (batch) of the measurement.

    The result is False if the block is not larger than the probe. `clean` is the number of images without
    noise, at the start of the probe.
    """
    count = min(len(dataset), block_size(dataset.images.shape[1:], device))
    if isinstance(model, InParts):
        count = min(count, model.most)
    if count <= len(answers.logits):
        return False
    clean = min(clean, len(answers.logits))
    return differ(answers, model, dataset.pixels(slice(0, count), device), rows=clean)


def _is_classifier(model: nn.Module) -> bool:
    """Return whether a model is one of blrobust's own networks, with or without channels.

    Such a network has no random numbers and no statistics of batches, so `doubts` need not check it. This
    check calls a model about forty times, which would take longer than a small measurement.
    """
    parts = list(model.modules())
    return any(isinstance(part, Classifier) for part in parts) and not any(
        isinstance(part, OwnModel) for part in parts
    )


def check_again(
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    answers: Mapping[str, Any],
    flags: dict[str, list[str]],
    *,
    source: Model | None = None,
) -> None:
    """Add "answers are random" to the flags of models whose logits have changed since the call of `probe`.

    `answers` are those of `probe`, and `flags` are the flags by model. Changes by rounding errors do not
    count. If `source` has changed, all models get the flag. Call this function at the end of a run, because
    some models change slowly, or draw random numbers in only a few of their calls.
    """
    pixels = inputs(dataset, device)

    def has_changed(model: Model, name: str) -> bool:
        before = Answers.decode(answers[name])
        with full_precision():
            try:
                now = logits_of(model.module, pixels[: len(before.logits)], seed=0)
            except UserError:
                return True
        return now.shape != before.logits.shape or distance(before.logits, now) > before.tolerance

    for model in models:
        if RANDOM not in flags[model.label] and has_changed(model, model.label):
            flags[model.label].append(RANDOM)
    if source is not None and has_changed(source, _source_name(source)):
        _flag_source(flags, [RANDOM])


def check_under_attack(
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    flags: dict[str, list[str]],
    *,
    source: Model | None = None,
) -> None:
    """Add reasons to doubt the models' accuracy under attack to `flags` (`attacks.model_checks`).

    The checks use the first images of the data set. With a `source`, the model on which attacks run, reasons
    to doubt the source are added to the flags of all models. If a model fails on the images or does not fit
    into memory, nothing is added for it, because its attacks report the error.
    """
    from blrobust.attacks.model_checks import IMAGES as MOST  # loads Foolbox, which noise does not need
    from blrobust.attacks.model_checks import check_model

    count = min(MOST, len(dataset))
    pixels, labels = dataset.pixels(slice(0, count), device), dataset.labels[:count].to(device)
    for model in models:
        with suppress(UserError, torch.OutOfMemoryError), own_state_kept(model.module):
            found = check_model(model.module, pixels, labels)
            flags[model.label] += [flag for flag in found if flag not in flags[model.label]]
    if source is not None:
        with suppress(UserError, torch.OutOfMemoryError), own_state_kept(source.module):
            _flag_source(flags, check_model(source.module, pixels, labels))


def _answers(label: str, model: nn.Module, pixels: Tensor) -> Answers:
    """Return the answers of a model for `pixels` (m, C, H, W), or for its first images if the model fails.

    After a failure on all images, the first two thirds, the first third and the first two images are tried in
    turn. Raises `UserError` if the model fails on the first two images too.
    """
    part = len(pixels) // PARTS
    for count in (len(pixels), 2 * part, part, 2):
        some = pixels[:count]
        try:
            logits, moved = (first_logits(model, each) for each in (some, rounded(some)))
        except UserError as error:
            failure = error
        else:
            return Answers.of(logits, moved, partial(first_logits, model, some))
    named = f"model {label!r}"
    text = str(failure)
    raise UserError(text if text.startswith(named) else f"{named}: {text}") from failure


def rounded(pixels: Tensor) -> Tensor:
    """Return pixels (m, C, H, W) with noise of the size of rounding errors, within the range of `pixels`."""
    least, most = pixels.aminmax()
    return (pixels + ROUNDING * fixed_noise(pixels)).clamp(least, most)
