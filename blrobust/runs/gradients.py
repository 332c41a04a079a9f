"""The gradients of a run's models on a few fixed images, which show an edit that the logits do not.

A straight-through line, a hook or an autograd function of the user's own changes the results of attacks with
gradients, but no logit.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blrobust.errors import UserError, reason

KEY = "gradients"  # of a model's stored answers; runs stored without it agree with every model

# Relative to the norm of an image's gradient. Sums in another order, by other threads or kernels, change most
# images by 5e-7 (bundled models in fp32), 6e-4 (fp16) and 2e-4 (bf16). But where they bring a ReLU or a
# max-pool to its other side the gradient jumps, by up to 4e-2 in fp16, on 2 of 8 images at most; so the
# largest quarter of the distances is left out. Pixel noise of 1e-6, which crosses more kinks, changes the
# rest by up to 8e-3 (fp32, fft50, fft85) and 6e-2 (fp16, bf16); a gradient that is taken away, by 1.
LEFT_OUT = 0.25  # of the images, those with the largest distances
LEAST_TOLERANCE = 1e-2
AMPLIFICATION = 8  # a tolerance is this many times the response to such noise
MOST_TOLERANCE = 0.9
CHAOTIC = 0.5  # a response beyond it is that of a model whose gradients do not repeat
ANY = 2.0  # the distance of opposite gradients, and the largest one


@dataclass(frozen=True)
class Gradients:
    """Linear sketches of one model's gradients, float32 (images, numbers), and a tolerance.

    The sketches are None for a model without gradients. Other gradients within this `distance` count as
    those of the same model.
    """

    sketches: NDArray[np.float32] | None
    tolerance: float = LEAST_TOLERANCE

    @classmethod
    def of(cls, sketches: NDArray[np.float32], rounded: NDArray[np.float32]) -> Self:
        """Return the gradients, with a tolerance from their distance to `rounded`.

        `rounded` are the sketches for the same images with noise of the size of rounding errors.
        """
        response = distance(sketches, rounded)
        if response > CHAOTIC:
            return cls(sketches, ANY)
        return cls(sketches, min(max(AMPLIFICATION * response, LEAST_TOLERANCE), MOST_TOLERANCE))

    def agree(self, other: Self) -> bool:
        """Return whether both are gradients of the same model, within the larger tolerance.

        A model that failed on some images has fewer gradients; only the images of both are compared.
        """
        if self.sketches is None or other.sketches is None:
            return self.sketches is other.sketches
        if self.sketches.shape[1:] != other.sketches.shape[1:]:
            return False
        shared = min(len(self.sketches), len(other.sketches))
        found = distance(self.sketches[:shared], other.sketches[:shared])
        return found <= max(self.tolerance, other.tolerance)

    def encode(self) -> dict[str, Any]:
        """Return the gradients as plain JSON."""
        if self.sketches is None:
            return {"sketches": None}
        text = base64.b64encode(self.sketches.astype("<f4").tobytes()).decode()
        return {"shape": list(self.sketches.shape), "sketches": text, "tolerance": self.tolerance}

    @classmethod
    def decode(cls, stored: Mapping[str, Any]) -> Self:
        """Return the gradients that `encode` wrote; raise `UserError` where they are damaged."""
        try:
            if stored["sketches"] is None:
                return cls(None)
            sketches = np.frombuffer(base64.b64decode(stored["sketches"]), "<f4").reshape(stored["shape"])
            return cls(sketches.astype(np.float32), float(stored["tolerance"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"the stored gradients of a model are corrupt: {reason(error)}") from None


def distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the distance of sketches (images, numbers), from 0 to 2: the upper quartile over the images.

    That of an image is the norm of the difference, relative to the larger norm. It is 1 where only one of
    the two is finite or other than zero.
    """
    finite = [np.isfinite(sketches).all(axis=1, keepdims=True) for sketches in (first, second)]
    a = np.where(finite[0], first, 0).astype(np.float64)
    b = np.where(finite[1], second, 0).astype(np.float64)
    larger = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    found = np.linalg.norm(a - b, axis=1) / np.maximum(larger, np.finfo(np.float64).tiny)
    return float(np.quantile(np.where((finite[0] == finite[1])[:, 0], found, 1.0), 1 - LEFT_OUT))


def agree(stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether the gradients in two models' answers agree; answers without them agree with all."""
    if KEY not in stored or KEY not in new:
        return True
    return Gradients.decode(stored[KEY]).agree(Gradients.decode(new[KEY]))
