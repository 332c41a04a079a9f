"""The answers of a run's models: their logits for a few fixed inputs, which identify the models.

The checksum of a user's model does not cover its code and attributes, so an edited model can have the same
configuration as before.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from blrobust.errors import UserError, reason
from blrobust.runs import RUNS, gradients

# Relative to the spread of the logits. Sums in another order, by other threads or kernels, change the
# bundled models by up to 2e-6 in fp32, 4e-4 in fp16 and 3e-3 in bf16; noise of 1e-6 in the pixels
# changes them by 1e-6, 5e-4 and 2e-3, so that it shows how much a model amplifies rounding.
LEAST_TOLERANCE = 1e-4
AMPLIFICATION = 8  # a tolerance is this many times the model's response to such noise
MOST_TOLERANCE = 1.0  # logits of opposite sign differ by 2

R = TypeVar("R")


class OtherModelError(UserError):
    """The folder has a run of a model with other logits or gradients."""


@dataclass(frozen=True)
class Answers:
    """Logits of one model, float32 (inputs, classes), and a tolerance.

    Other logits within this `distance` count as those of the same model.
    """

    logits: NDArray[np.float32]
    tolerance: float

    @classmethod
    def of(cls, logits: NDArray[np.float32], rounded: NDArray[np.float32]) -> Self:
        """Return the answers `logits`, with a tolerance from their distance to `rounded`.

        `rounded` are the logits of the same inputs with noise of the size of rounding errors.
        """
        response = AMPLIFICATION * distance(logits, rounded)
        return cls(logits, min(max(response, LEAST_TOLERANCE), MOST_TOLERANCE))

    def agree(self, other: Self) -> bool:
        """Return whether both are answers of the same model, within the larger tolerance.

        A model that failed on some inputs has fewer answers; only the inputs of both are compared.
        """
        if self.logits.shape[1:] != other.logits.shape[1:]:
            return False
        shared = min(len(self.logits), len(other.logits))
        tolerance = max(self.tolerance, other.tolerance)
        return distance(self.logits[:shared], other.logits[:shared]) <= tolerance

    def encode(self) -> dict[str, Any]:
        """Return the answers as plain JSON."""
        text = base64.b64encode(self.logits.astype("<f4").tobytes()).decode()
        return {"shape": list(self.logits.shape), "logits": text, "tolerance": self.tolerance}

    @classmethod
    def decode(cls, stored: Mapping[str, Any]) -> Self:
        """Return the answers that `encode` wrote; raise `UserError` where they are damaged."""
        try:
            logits = np.frombuffer(base64.b64decode(stored["logits"]), "<f4").reshape(stored["shape"])
            return cls(logits.astype(np.float32), float(stored["tolerance"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"the stored answers of a model are corrupt: {reason(error)}") from None


def distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the distance of logits (inputs, classes): RMS difference, relative to the spread.

    The spread is the RMS deviation of `first` from its mean over the inputs, and at least 1/1000 of the
    RMS of `first`, for logits that hardly vary. The share of logits that are finite in only one of the two
    is added.
    """
    finite = np.isfinite(first) & np.isfinite(second)
    a, b = (np.where(finite, logits, 0).astype(np.float64) for logits in (first, second))
    shared = max(1, int(finite.sum()))
    mean = a.sum(0) / np.maximum(1, finite.sum(0))
    difference = np.sqrt(np.square(a - b).sum() / shared)
    spread = np.sqrt(np.square(np.where(finite, a - mean, 0)).sum() / shared)
    spread = max(spread, 1e-3 * np.sqrt(np.square(a).sum() / shared), np.finfo(np.float64).tiny)
    mismatch = (np.isfinite(first) != np.isfinite(second)).mean()
    return float(difference / spread + mismatch)


def check(folder: Path, stored: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise `OtherModelError` unless the `stored` and the `found` answers, by model, are the same.

    Gradients are compared where both have them. Those without answers agree with every model.
    """
    if not stored or not found:
        return
    for label, answers in found.items():
        if label not in stored or not Answers.decode(answers).agree(Answers.decode(stored[label])):
            raise OtherModelError(
                f"--out: got {folder}, but {label} answers differently than when this run was made; "
                "choose another --out"
            )
        if not gradients.agree(stored[label], answers):
            raise OtherModelError(
                f"--out: got {folder}, but {label} has other gradients than when this run was made; "
                "choose another --out"
            )


def begin(out: Path | None, name: str, start: Callable[[Path], R]) -> R:
    """Return `start(folder)` for `out`, by default for the first usable one of runs/NAME, runs/NAME-2, ...

    A folder is usable if it is new or if its models have the same answers.
    """
    if out is not None:
        return start(out)
    for number in count(1):
        try:
            return start(RUNS / (name if number == 1 else f"{name}-{number}"))
        except OtherModelError:
            continue
    raise AssertionError
