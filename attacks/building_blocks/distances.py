"""Distances that Foolbox lacks: the number of pixels that differ, and a distance that is always NaN."""

from eagerpy.astensor import astensor, astensor_, astensors_
from foolbox.attacks.base import T
from foolbox.distances import Distance
from torch import Tensor


class PixelDistance(Distance):
    """The number of pixels that differ in at least one colour channel."""

    def __call__(self, references: T, perturbed: T) -> T:
        """Return the distances (m,) between the images `references` and `perturbed`, both (m, C, H, W)."""
        (x, y), restore_type = astensors_(references, perturbed)
        differs: Tensor = (x.raw != y.raw).any(dim=1)  # (m, H, W)
        return restore_type(astensor(differs.flatten(1).sum(dim=1).float()))

    def clip_perturbation(self, references: T, perturbed: T, epsilon: float) -> T:
        """Return `perturbed` unchanged.

        Raises `NotImplementedError` if more than `epsilon` pixels differ, because no rule chooses the pixels
        to restore.
        """
        distances = astensor(self(references, perturbed))
        if (distances > epsilon).any().item():
            raise NotImplementedError(f"more than {epsilon:g} pixels differ")
        return perturbed


class Unmeasured(Distance):
    """The distance of attacks that no norm describes, such as rotations: NaN."""

    def __repr__(self) -> str:
        return "Unmeasured()"

    def __call__(self, references: T, perturbed: T) -> T:
        """Return NaN for each of the m images, of shape (m,)."""
        x, restore = astensor_(references)
        distances: T = restore((x[:, 0, 0, 0] * 0 + 1) * float("nan"))
        return distances

    def clip_perturbation(self, references: T, perturbed: T, epsilon: float) -> T:
        """Return `perturbed` unchanged: the attack itself ensures that it does not exceed `epsilon`."""
        return perturbed
