"""The guard: it runs an attack on a batch of samples and checks everything that the attack returns."""

from blrobust.attacks.guard.guard import Guard
from blrobust.perturbations.seeding import seeded

__all__ = ["Guard", "seeded"]
