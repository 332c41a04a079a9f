"""Reasons to doubt the logits of a model: they are random, or depend on the batch or on gradients."""

import numpy as np
from torch import Tensor, nn

from blrobust.errors import UserError
from blrobust.evaluation.probe_passes import first_logits, logits_of
from blrobust.models.own_model import own_state_is_restored, own_state_kept
from blrobust.runs.answers import RANDOM, Answers, distance

CALLS = 32  # calls of one image each, because some models draw random numbers at some calls only

BATCH = "answers depend on the batch"
GRADIENTS = "answers depend on gradients"
STATE = "answers may depend on earlier calls"


def doubts(model: nn.Module, pixels: Tensor, answers: Answers) -> list[str]:
    """Return at most one reason to doubt a model, as a list.

    `answers` are the logits of the model for `pixels` (m, C, H, W). The reasons are:

    - "answers are random": another call with another seed gives other logits for the same inputs. This also
      detects a random generator of the model's own, a count of calls, statistics that each call updates, and
      values that the model keeps from its first call.
    - "answers depend on the batch": for half of the batch, or for a single image, the logits differ by more
      than rounding errors from those in the whole batch, or the model raises an error.
    - "answers depend on gradients": the logits differ if torch's gradients are enabled, as they are in
      attacks.
    - "answers may depend on earlier calls": without the state of its first call, on two images, the model
      fails or returns other logits, so that it keeps this state.

    At the end, the state of a user's module is restored.
    """
    with own_state_kept(model):
        found = _doubts_in_calls(model, pixels, answers)
    if found:
        return found
    half = pixels[: len(pixels) // 2]
    # Examples are a layer scaled by the first batch, and an observer of the range of its inputs.
    if differ(answers, model, half):
        return [RANDOM]
    if differ(answers, model, half, gradients=True):
        return [GRADIENTS]
    return [] if own_state_is_restored(model) else [STATE]


def _doubts_in_calls(model: nn.Module, pixels: Tensor, answers: Answers) -> list[str]:
    """Return a reason to doubt a model from about forty calls, between which its state is not restored."""
    if not np.array_equal(logits_of(model, pixels, seed=1), answers.logits, equal_nan=True):
        return [RANDOM]
    half, ends = len(pixels) // 2, (0, len(pixels) - 1)
    try:
        alone = logits_of(model, pixels[:half], seed=0)
        # Calls with two images in turn detect a model that returns the logits of an earlier call. The order
        # has no period, which detects a model that counts its calls.
        order = [call.bit_count() % 2 for call in range(CALLS)]
        calls = [logits_of(model, pixels[[ends[end]]], seed=2 + call) for call, end in enumerate(order)]
    except UserError:  # normalisation over a batch needs more than one image
        return [BATCH]
    singles = calls[:2]  # the first logits of each of the two images
    if any(not np.array_equal(c, singles[i], equal_nan=True) for c, i in zip(calls, order, strict=True)):
        return [RANDOM]
    # Distances use the spread of all logits, because the logits of one or two images can be almost equal.
    in_halves = np.concatenate([alone, answers.logits[half:]])
    one_by_one = answers.logits.copy()
    one_by_one[list(ends)] = np.concatenate(singles)
    apart = max(distance(answers.logits, other) for other in (in_halves, one_by_one))
    return [BATCH] if apart > answers.tolerance else []


def differ(
    answers: Answers, model: nn.Module, pixels: Tensor, *, rows: int | None = None, gradients: bool = False
) -> bool:
    """Return whether the first call of a user's module gives other logits than `answers`.

    The model gets the first `rows` of `pixels` (m, C, H, W), or all if `rows` is None. `answers` are those
    for the same inputs. If the model fails, the result is False, because the measurement reports the error.
    """
    try:
        first = first_logits(model, pixels, gradients=gradients)[:rows]
    except UserError:
        return False
    return distance(answers.logits, np.concatenate([first, answers.logits[len(first) :]])) > answers.tolerance
