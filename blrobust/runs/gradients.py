"""The gradients of a run's models on a few fixed images, which reveal edits that leave the logits unchanged.

For example, a straight-through estimator, a hook or a custom autograd function changes the gradients, and so
the results of attacks that use gradients.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blrobust.errors import UserError, reason

KEY = "gradients"  # entry of a model's stored answers; answers without this entry agree with every model

# Distances are relative to the norm of an image's gradient (`distance`). Another order of sums, in other
# threads or kernels, changes the gradients of most images by 5e-7 (bundled models in fp32), 6e-4 (fp16) and
# 2e-4 (bf16). But if it changes the sign of a ReLU's input, or the position of a max-pool's maximum, the
# gradient jumps. Such jumps are up to 4e-2 in fp16 and occur on at most 2 of 8 images. So the largest quarter
# of the distances is left out. Pixel noise of 1e-6 causes more jumps. It changes the remaining gradients by
# up to 8e-3 (fp32, fft50, fft85) and 6e-2 (fp16, bf16). If a model loses its gradient, the distance is 1.
LEFT_OUT = 0.25  # share of the images, those with the largest distances
LEAST_TOLERANCE = 1e-2
AMPLIFICATION = 8  # a tolerance is this many times the response to such noise
MOST_TOLERANCE = 0.9
CHAOTIC = 0.5  # the gradients of a model with a larger response do not repeat
ANY = 2.0  # a tolerance for all gradients: the largest distance, that of opposite gradients


@dataclass(frozen=True)
class Gradients:
    """Sketches of one model's gradients, float32 (images, numbers), and a tolerance for comparing them.

    A sketch is a vector of random sums of the values of one image's gradient, much shorter than the gradient.
    `sketches` is None for a model without gradients. Two arrays of sketches count as those of the same model
    if their `distance` is at most the tolerance.
    """

    sketches: NDArray[np.float32] | None
    tolerance: float = LEAST_TOLERANCE

    @classmethod
    def of(cls, sketches: NDArray[np.float32], rounded: NDArray[np.float32]) -> Self:
        """Return gradients with `sketches` and a tolerance of 8 times the distance from them to `rounded`.

        `rounded` are the sketches for the same images with noise of the size of rounding errors. Both arrays
        are float32 (images, numbers). The tolerance is at least `LEAST_TOLERANCE` and at most
        `MOST_TOLERANCE`. But if the distance exceeds `CHAOTIC`, the tolerance is `ANY`.
        """
        response = distance(sketches, rounded)
        if response > CHAOTIC:
            return cls(sketches, ANY)
        return cls(sketches, min(max(AMPLIFICATION * response, LEAST_TOLERANCE), MOST_TOLERANCE))

    def agree(self, other: Self) -> bool:
        """Return whether both gradients are of the same model: the distance is at most the larger tolerance.

        A model that fails on some images has sketches for fewer images. The comparison uses the images for
        which both have sketches. If only one of the models has gradients, the result is False.
        """
        if self.sketches is None or other.sketches is None:
            return self.sketches is other.sketches
        if self.sketches.shape[1:] != other.sketches.shape[1:]:
            return False
        shared = min(len(self.sketches), len(other.sketches))
        found = distance(self.sketches[:shared], other.sketches[:shared])
        return found <= max(self.tolerance, other.tolerance)

    def encode(self) -> dict[str, Any]:
        """Return the gradients as a JSON dict with the entries "shape", "sketches" (base64) and "tolerance".

        For a model without gradients, the only entry is "sketches": None.
        """
        if self.sketches is None:
            return {"sketches": None}
        text = base64.b64encode(self.sketches.astype("<f4").tobytes()).decode()
        return {"shape": list(self.sketches.shape), "sketches": text, "tolerance": self.tolerance}

    @classmethod
    def decode(cls, stored: Mapping[str, Any]) -> Self:
        """Return the gradients from a dict that `encode` returned; raise `UserError` if it is damaged."""
        try:
            if stored["sketches"] is None:
                return cls(None)
            sketches = np.frombuffer(base64.b64decode(stored["sketches"]), "<f4").reshape(stored["shape"])
            return cls(sketches.astype(np.float32), float(stored["tolerance"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"the stored gradients of a model are corrupt: {reason(error)}") from None


def distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the distance between two arrays of sketches (images, numbers), a number from 0 to 2.

    The distance between two sketches of one image is the norm of their difference, divided by the larger of
    their norms. It is 1 if only one of the sketches is finite, or if only one is not zero. The distance
    between the arrays is the upper quartile over the images.
    """
    finite = [np.isfinite(sketches).all(axis=1, keepdims=True) for sketches in (first, second)]
    a = np.where(finite[0], first, 0).astype(np.float64)
    b = np.where(finite[1], second, 0).astype(np.float64)
    larger = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    found = np.linalg.norm(a - b, axis=1) / np.maximum(larger, np.finfo(np.float64).tiny)
    return float(np.quantile(np.where((finite[0] == finite[1])[:, 0], found, 1.0), 1 - LEFT_OUT))


def agree(stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether the gradients in the answers `stored` and `new` of a model agree (`Gradients.agree`).

    The gradients are the entry `KEY` of the answers. If an answer has no such entry, the result is True.
    """
    if KEY not in stored or KEY not in new:
        return True
    return Gradients.decode(stored[KEY]).agree(Gradients.decode(new[KEY]))
