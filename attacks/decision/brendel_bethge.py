"""The attacks of Brendel et al. 2019 as in Foolbox, with an adversarial starting point for every sample."""

import copy
import warnings
from abc import ABC
from typing import Any

from foolbox.attacks import brendel_bethge
from torch import Tensor

from blrobust.attacks.decision.starts import BoundaryWalk


class _BrendelBethgeAttack(BoundaryWalk, brendel_bethge.BrendelBethgeAttack, ABC):
    """Common part of the L2 and the Linf attack.

    In Foolbox the trust region of a sample grows with the batch size; here it does not.
    """

    def instantiate_optimizer(self) -> Any:
        """Return Foolbox's solver, without the warning that its compilation takes a minute."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return super().instantiate_optimizer()  # type: ignore[safe-super]

    def _walk(self, model: Any, images: Tensor, criterion: Any, *, starting_points: Tensor) -> Any:
        attack: Any = copy.copy(self)
        attack.lr /= len(images)
        return brendel_bethge.BrendelBethgeAttack.run(
            attack, model, images, criterion, starting_points=starting_points
        )


class L2BrendelBethgeAttack(_BrendelBethgeAttack, brendel_bethge.L2BrendelBethgeAttack):
    """Foolbox's L2 attack of Brendel et al. 2019 with an adversarial starting point for every sample."""


class LinfBrendelBethgeAttack(_BrendelBethgeAttack, brendel_bethge.LinfinityBrendelBethgeAttack):
    """Foolbox's Linf attack of Brendel et al. 2019 with an adversarial starting point for every sample."""
