"""The outcome of an attack on a batch of samples: tensors (m,) by name, described in `Guard.measure`."""

import math

import torch
from torch import Tensor

from blrobust.attacks.counting_model import CountingModel
from blrobust.attacks.guard.checks import Checks
from blrobust.attacks.status import Status
from blrobust.perturbations.base import predict
from blrobust.perturbations.classification import classify

Outcome = dict[str, Tensor]


def untouched(inputs: Tensor, clean: Outcome, status: Tensor, checks: Checks) -> Outcome:
    """Return the outcome of inputs (m, C, H, W) that are not attacked; `clean` is their classification."""
    return {
        **{name: values.clone() for name, values in clean.items()},
        "success": torch.zeros_like(status, dtype=torch.bool),
        "distance": checks.distance(inputs, inputs),
        "reason": status,
        "rounded": torch.zeros_like(status, dtype=torch.bool),
        "forwards": torch.ones_like(status, dtype=torch.int32),
        "backwards": torch.zeros_like(status, dtype=torch.int32),
    }


def evaluate(
    counted: CountingModel, inputs: Tensor, labels: Tensor, evaluated: Tensor, status: Tensor, checks: Checks
) -> Outcome:
    """Return the outcome, without the numbers of passes, of the attack's checked results `evaluated`.

    `inputs` and `evaluated` are (m, C, H, W). `status`, uint8 (m,), is the result of the checks.
    """
    pixels = counted.space.leave(evaluated)
    stored = (pixels.clamp(0, 1) * 255).round() / 255  # as an image of 8 bits
    # Before the forward pass is queued, because this comparison synchronises with the GPU.
    same = torch.allclose(stored, pixels, rtol=0, atol=1e-6)
    found = classify(counted, evaluated, labels)
    wrong = found["prediction"] != labels
    status = status.masked_fill((status == Status.ADVERSARIAL) & ~wrong, Status.NOT_ADVERSARIAL)
    success = status == Status.ADVERSARIAL
    return {
        **found,
        "success": success,
        "distance": checks.distance(inputs, evaluated),
        "reason": status,
        "rounded": success if same else success & (predict(counted.model, stored) != labels),
    }


def within(outcome: Outcome, level: float, clean: Outcome, limit: float) -> Outcome:
    """Return the outcome at one level, given the outcome of a search for the smallest perturbation.

    A perturbation beyond the distance `limit` counts as not found, and its sample has the classification
    `clean`.
    """
    # Inputs without a success as well: if crafted on another model, they may correct a wrong prediction.
    far = outcome["distance"] > limit
    minimal = torch.where(outcome["success"], outcome["distance"], math.inf)
    return {
        **{name: torch.where(far, values, outcome[name]) for name, values in clean.items()},
        "success": outcome["success"] & ~far,
        "distance": outcome["distance"].masked_fill(far, 0),
        "reason": outcome["reason"].masked_fill(far & outcome["success"], Status.TOO_FAR),
        "rounded": outcome["rounded"] & ~far,
        "minimal": minimal if level > 0 else torch.full_like(minimal, math.inf),
    }


def passes_per_sample(total: int, like: Tensor) -> Tensor:
    """Return `total` passes divided evenly among the m samples, int32 (m,); the sum is exactly `total`.

    The result is on the device of `like` (m,). An even share is used because a pass does not belong to one
    sample: an attack may run on parts of a batch, or on copies of samples.
    """
    shares = torch.full_like(like, total // len(like), dtype=torch.int32)
    shares[: total % len(like)] += 1
    return shares
