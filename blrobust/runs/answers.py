"""The answers of a run's models: their logits for a few fixed inputs, which reveal a changed model.

The checksum of a user's module does not cover its code and attributes. So a run of an edited module can have
the same configuration as before the edit. Only the logits differ.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from blrobust.errors import UserError, reason
from blrobust.runs import RUNS, gradients

# Tolerances are distances relative to the spread of the logits (`distance`). Another order of sums, in other
# threads or kernels, changes the logits of the bundled models by up to 2e-6 in fp32, 4e-4 in fp16 and 3e-3 in
# bf16. Noise of 1e-6 in the pixels changes them by 1e-6, 5e-4 and 2e-3. So the response of a model to such
# noise shows how much it amplifies rounding errors.
LEAST_TOLERANCE = 1e-4
AMPLIFICATION = 8  # a tolerance is this many times the model's response to such noise
MOST_TOLERANCE = 0.1  # a larger response shows no rounding errors: the model draws noise seeded by the image
IDENTIFYING = 1e-3  # with a larger tolerance, answers alone do not show that a model is the same
RANDOM = "answers are random"  # the flag of a model whose answers change from call to call
CODE = "code"  # the entry of a model's answers with the checksum of a user's code and plain attributes
UNREPEATABLE = 0.0  # the tolerance for logits that another call does not repeat; they identify no model

R = TypeVar("R")


class OtherModelError(UserError):
    """The error for a run folder whose stored logits or gradients differ from those of the present models."""


@dataclass(frozen=True)
class Answers:
    """Logits of one model, float32 (inputs, classes), and a tolerance for comparing them with others.

    Two sets of logits count as those of the same model if their `distance` is at most the tolerance.
    """

    logits: NDArray[np.float32]
    tolerance: float

    @classmethod
    def of(
        cls,
        logits: NDArray[np.float32],
        rounded: NDArray[np.float32],
        repeat: Callable[[], NDArray[np.float32]],
    ) -> Self:
        """Return answers with `logits` and a tolerance of 8 times their distance to `rounded`.

        `rounded` are the logits of the same inputs with noise of the size of rounding errors, and `repeat`
        returns those of the same inputs in another call. All arrays are float32 (inputs, classes). The
        tolerance is at least `LEAST_TOLERANCE`. With a tolerance above `MOST_TOLERANCE`, a changed model
        would count as the same one. The tolerance is then 8 times the distance from `logits` to those of
        `repeat`, or `UNREPEATABLE` if this is too large as well.
        """
        response = AMPLIFICATION * distance(logits, rounded)
        if response > MOST_TOLERANCE:
            response = AMPLIFICATION * distance(logits, repeat())
        return cls(logits, max(response, LEAST_TOLERANCE) if response <= MOST_TOLERANCE else UNREPEATABLE)

    def agree(self, other: Self) -> bool:
        """Return whether both answers are of the same model: the distance is at most the larger tolerance.

        A model that fails on some inputs has logits for the first inputs only. The comparison uses the inputs
        for which both answers have logits. Answers with different numbers of classes do not agree. Larger
        tolerances, which early builds stored, count as `MOST_TOLERANCE`.
        """
        if self.logits.shape[1:] != other.logits.shape[1:]:
            return False
        shared = min(len(self.logits), len(other.logits))
        tolerance = min(max(self.tolerance, other.tolerance), MOST_TOLERANCE)
        return distance(self.logits[:shared], other.logits[:shared]) <= tolerance

    def encode(self) -> dict[str, Any]:
        """Return the answers as a JSON dict with the entries "shape", "logits" (base64) and "tolerance"."""
        text = base64.b64encode(self.logits.astype("<f4").tobytes()).decode()
        return {"shape": list(self.logits.shape), "logits": text, "tolerance": self.tolerance}

    @classmethod
    def decode(cls, stored: Mapping[str, Any]) -> Self:
        """Return the answers from a dict that `encode` returned; raise `UserError` if it is damaged."""
        try:
            logits = np.frombuffer(base64.b64decode(stored["logits"]), "<f4").reshape(stored["shape"])
            return cls(logits.astype(np.float32), float(stored["tolerance"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"the stored answers of a model are corrupt: {reason(error)}") from None


def distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the distance between two arrays of logits (inputs, classes): RMS difference divided by spread.

    RMS means the root of the mean square over the logits that are finite in both arrays. The spread is the
    RMS deviation of `first` from its mean over the inputs. Because some logits hardly vary, the spread is at
    least 1/1000 of the RMS of `first`. The share of logits that are finite in only one of the arrays is added
    to the distance.
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


def check(
    folder: Path, stored: Mapping[str, Any], found: Mapping[str, Any], flags: Mapping[str, Sequence[str]]
) -> None:
    """Raise `OtherModelError` if the answers of a model differ between a stored run and the present process.

    Where answers do not identify a model, because their tolerance is large or the model has the flag `RANDOM`
    in the `flags` of the run, the code and the plain attributes of a user's model must be the same too.

    `stored` has the answers of the run in `folder`, and `found` those of the present models. Both map the
    names of models to dicts (`Answers.encode`). Gradients are compared if both dicts have them. If `stored`
    or `found` is empty, nothing is compared. Raises `UserError` if stored answers are damaged.
    """
    if not stored or not found:
        return
    for label, answers in found.items():
        new = Answers.decode(answers)
        old = Answers.decode(stored[label]) if label in stored else None
        if old is None or not new.agree(old):
            if new.tolerance == UNREPEATABLE:
                raise OtherModelError(
                    f"out: got {folder}, but the answers of {label} do not repeat, so that they do not "
                    "show whether this run is of the same model; choose another folder"
                )
            raise OtherModelError(
                f"out: got {folder}, but {label} answers differently than when this run was made; "
                "choose another folder"
            )
        codes = {entry.get(CODE) for entry in (stored[label], answers)} - {None}
        tolerance = max(new.tolerance, old.tolerance)
        if len(codes) > 1 and (tolerance > IDENTIFYING or RANDOM in flags.get(label, ())):
            raise OtherModelError(
                f"out: got {folder}, but {label} has other code or attributes than when this run was made; "
                "choose another folder"
            )
        if not gradients.agree(stored[label], answers):
            raise OtherModelError(
                f"out: got {folder}, but {label} has other gradients than when this run was made; "
                "choose another folder"
            )


def begin(out: Path | None, name: str, start: Callable[[Path], R]) -> R:
    """Return `start(out)`. If `out` is None, return `start(folder)` for the first suitable folder in `runs`.

    The folders runs/NAME, runs/NAME-2, ... are tried in turn, with the argument `name` as NAME. A folder is
    not suitable if `start` raises `OtherModelError` for it: it has a run of a model with other logits or
    gradients.
    """
    if out is not None:
        return start(out)
    for number in count(1):
        try:
            return start(RUNS / (name if number == 1 else f"{name}-{number}"))
        except OtherModelError:
            continue
    raise AssertionError
