"""The guard: runs an attack on a block of samples and validates everything the attack returns."""

from blrobust.attacks.guard.guard import Guard
from blrobust.perturbations.seeding import seeded

__all__ = ["Guard", "seeded"]
