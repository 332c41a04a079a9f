"""Probe of the models of a run: their answers to a few fixed inputs, and doubts about these answers."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.errors import UserError, describe
from blrobust.models.zoo import Model
from blrobust.perturbations.random_numbers import fixed_noise
from blrobust.perturbations.seeding import seeded
from blrobust.runs.answers import Answers, distance

IMAGES = 16  # at most; fewer large ones, so that a probe takes less than 2 s on a CPU
VALUES = 2**19  # in these images, at most, but never fewer than two images
NOISE = (0.03, 0.1, 0.4)  # standard deviations of the noise, in turn, in pixel units
PARTS = 3  # of the inputs: `inputs`
CALLS = 32  # with one image each, which are cheap: a model can draw at some calls only
ROUNDING = 1e-6  # standard deviation of noise as small as rounding errors

RANDOM = "answers are random"
BATCH = "answers depend on the batch"


def probe(
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    *,
    source: Model | None = None,
    gradients: bool = False,
) -> dict[str, Any]:
    """Return the entries of a run's record that the probe adds, as plain JSON.

    - "answers": logits by model (`runs.answers.Answers`), with those of `source`. With `gradients`, also the
      gradients (`runs.gradients.Gradients`) of the models that attacks run on: `source`, by default all.
    - "flags": doubts by model (`doubts`).

    A model that fails on noise is probed without it: the sweep reports the level at which it fails. Raises
    `UserError` where a model fails on two of the images.
    """
    pixels = inputs(dataset, device)
    named = {model.label: model for model in models}
    answers: dict[str, Any] = {}

    def take(name: str, model: Model, *, gradients: bool) -> list[str]:
        """Add the answers of a model and return its doubts."""
        found = _answers(model.label, model.module, pixels)
        taken = pixels[: len(found.logits)]
        answers[name] = found.encode()
        flags = doubts(model.module, taken, found)
        if gradients:
            from blrobust.evaluation.gradient_probe import gradient_answers  # noise needs no attacks

            answers[name] |= gradient_answers(model.module, taken, rounded(taken), len(pixels) // PARTS)
        return flags

    with full_precision():
        flags = {
            label: take(label, model, gradients=gradients and source is None)
            for label, model in named.items()
        }
        if source is not None:
            _flag_source(flags, take(f"--source {source.label}", source, gradients=gradients))
    return {"answers": answers, "flags": flags}


def _flag_source(flags: dict[str, list[str]], found: list[str]) -> None:
    """Add doubts about the source to the flags of all models, which are attacked by way of it."""
    for of_model in flags.values():
        of_model += [flag for doubt in found if (flag := f"source: {doubt}") not in of_model]


def inputs(dataset: Dataset, device: torch.device) -> Tensor:
    """Return the first images, the same with noise cut to [0, 1], and with all of the noise.

    Float32 (m, C, H, W), three parts of equal length; the last one goes beyond [0, 1], where noise in
    normalised space is measured, and where other models may fail.
    """
    shape = tuple(dataset.images.shape[1:])
    count = min(len(dataset), IMAGES, max(2, VALUES // int(np.prod(shape))))
    clean = dataset.pixels(slice(0, count), device)
    scale = torch.tensor([NOISE[i % len(NOISE)] for i in range(count)], device=device)
    noisy = clean + scale.view(-1, 1, 1, 1) * fixed_noise(clean)
    return torch.cat([clean, noisy.clamp(0, 1), noisy])


def doubts(model: nn.Module, pixels: Tensor, answers: Answers) -> list[str]:
    """Return the flags of a model by its `answers` to `pixels` (m, C, H, W).

    - "answers are random": the same inputs have other logits at another call, under another seed. That is
      also so for a generator of the model's own, a counter, or statistics that each call updates.
    - "answers depend on the batch": half of the inputs, or one alone, have other logits than in the
      whole, beyond rounding. It is not checked where answers are random.
    """
    if not np.array_equal(_logits(model, pixels, seed=1), answers.logits, equal_nan=True):
        return [RANDOM]
    half, ends = len(pixels) // 2, (0, len(pixels) - 1)
    try:
        alone = _logits(model, pixels[:half], seed=0)
        # Two images, so that a model which returns what it has kept from the call before shows; in an order
        # without a period, so that one which counts its calls shows too.
        order = [call.bit_count() % 2 for call in range(CALLS)]
        calls = [_logits(model, pixels[[ends[end]]], seed=2 + call) for call, end in enumerate(order)]
    except UserError:  # normalisation over a batch needs more than one image
        return [BATCH]
    singles = calls[:2]  # the first answers to each of the two
    if any(not np.array_equal(c, singles[i], equal_nan=True) for c, i in zip(calls, order, strict=True)):
        return [RANDOM]
    # The spread is that of all answers: those of few images can be alike.
    in_halves = np.concatenate([alone, answers.logits[half:]])
    one_by_one = answers.logits.copy()
    one_by_one[list(ends)] = np.concatenate(singles)
    apart = max(distance(answers.logits, other) for other in (in_halves, one_by_one))
    return [BATCH] if apart > answers.tolerance else []


def check_again(
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    record: dict[str, Any],
    flags: dict[str, list[str]],
    *,
    source: Model | None = None,
) -> None:
    """Flag models whose answers, beyond rounding, are others than those of the `record` that `probe` made.

    It is for the end of a run: a model can change slowly, or draw at few of its calls.
    """
    pixels = inputs(dataset, device)

    def has_changed(model: Model, name: str) -> bool:
        before = Answers.decode(record["answers"][name])
        with full_precision():
            try:
                now = _logits(model.module, pixels[: len(before.logits)], seed=0)
            except UserError:
                return True
        return now.shape != before.logits.shape or distance(before.logits, now) > before.tolerance

    for model in models:
        if RANDOM not in flags[model.label] and has_changed(model, model.label):
            flags[model.label].append(RANDOM)
    if source is not None and has_changed(source, f"--source {source.label}"):
        _flag_source(flags, [RANDOM])


def check_under_attack(
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    flags: dict[str, list[str]],
    *,
    source: Model | None = None,
) -> None:
    """Add reasons to doubt each model's accuracy under attack, from the first images, to its `flags`.

    With a `source`, reasons to doubt what is found on it are added too. A model that fails on the images, or
    does not fit into memory with them, is left out: its attacks report the error.
    """
    from blrobust.attacks.model_checks import IMAGES as MOST  # loads Foolbox, which noise does not need
    from blrobust.attacks.model_checks import check_model

    count = min(MOST, len(dataset))
    pixels, labels = dataset.pixels(slice(0, count), device), dataset.labels[:count].to(device)
    for model in models:
        with suppress(UserError, torch.OutOfMemoryError):
            found = check_model(model.module, pixels, labels)
            flags[model.label] += [flag for flag in found if flag not in flags[model.label]]
    if source is not None:
        with suppress(UserError, torch.OutOfMemoryError):
            _flag_source(flags, check_model(source.module, pixels, labels))


def _answers(label: str, model: nn.Module, pixels: Tensor) -> Answers:
    """Return the answers to `pixels`, or to as many of its parts, from the first on, as the model takes."""
    part = len(pixels) // PARTS
    for count in (len(pixels), 2 * part, part, 2):
        some = pixels[:count]
        try:
            logits, moved = (_logits(model, each, seed=0) for each in (some, rounded(some)))
        except UserError as error:
            failure = error
        else:
            return Answers.of(logits, moved)
    raise UserError(f"model {label!r}: {failure}") from failure


def rounded(pixels: Tensor) -> Tensor:
    """Return the pixels (m, C, H, W) with noise of the size of rounding errors, in their own range."""
    least, most = pixels.aminmax()
    return (pixels + ROUNDING * fixed_noise(pixels)).clamp(least, most)


@torch.no_grad()  # not inference mode, in which a model can take no derivatives itself
def _logits(model: nn.Module, pixels: Tensor, *, seed: int) -> NDArray[np.float32]:
    """Return logits, float32 (m, classes), under the seed `seed` of the global generators."""
    try:
        with seeded("probe", seed, device=pixels.device):
            found: NDArray[np.float32] = model(pixels).float().cpu().numpy().copy()
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(f"{pixels.device} has too little free memory: {error}") from error
    except (Exception, SystemExit) as error:  # whatever the user's own model raises
        raise UserError(f"the network failed: {describe(error)}") from error
    return found
