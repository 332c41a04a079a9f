"""The guard: runs a Foolbox attack on one block of samples and believes nothing that it returns."""

import hashlib
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from foolbox.attacks.base import FixedEpsilonAttack
from foolbox.criteria import Misclassification
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from blrobust.attacks.registry import Entry
from blrobust.attacks.target import PIXELS, Counted, Space
from blrobust.errors import UserError
from blrobust.perturbation import predict

TOLERANCE = 1e-6  # relative to epsilon
SPACING = 2.0**-24  # what rounding x + delta to float32 can add to |delta|, for inputs up to 1

logger = logging.getLogger(__name__)


class Reason(IntEnum):
    """What became of a sample under attack; only ``ADVERSARIAL`` is a success."""

    ADVERSARIAL = 0  # the returned input passed every check and is misclassified
    NOT_ADVERSARIAL = 1  # the returned input is classified correctly
    NOT_ATTACKED = 2  # strength 0, or wrong before an attack that searches
    NOT_FINITE = 3  # NaN or infinity returned
    OUT_OF_BOUNDS = 4  # returned beyond the bounds of the inputs
    BEYOND_EPSILON = 5  # returned further away than the strength allows
    RAISED = 6  # the attack raised an error for the block


class Guard:
    """An attack as a perturbation that a sweep can run: seeded, checked, counted.

    A sample whose returned input fails a check is evaluated as it was: it counts as robust, and
    the reason says why. Every sample is evaluated once, after the checks; that is its prediction.
    """

    def __init__(self, kind: str, entry: Entry, *, seed: int, space: Space = PIXELS) -> None:
        self.kind = kind
        self.space = space.name
        self._space = space
        self._entry = entry
        self._seed = seed
        self._attack: Any = entry.build(seed=seed)

    @torch.no_grad()
    def __call__(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        level: float,
        draw: int,
        samples: range,
    ) -> dict[str, Tensor]:
        """Attack pixels (m, C, H, W) in [0, 1], labels int64 (m,), at strength ``level``.

        Returns tensors (m,): prediction int16, success bool, distance float32 (of the evaluated
        input, in the attack's norm), reason uint8 (``Reason``), rounded bool (the success survives
        rounding to 8 bits), forwards and backwards int32 (the question about rounding left out).
        """
        counted = Counted(model, self._space)
        target = PyTorchModel(counted, self._space.bounds, device=pixels.device)
        inputs = self._space.enter(pixels)
        rows = self._rows(counted, inputs, labels, level)
        forwards = torch.full_like(labels, counted.forwards // len(labels), dtype=torch.int32)
        backwards = torch.zeros_like(forwards)
        evaluated = inputs.clone()
        reason = torch.full_like(labels, Reason.NOT_ATTACKED, dtype=torch.uint8)
        if len(rows) > 0:
            counted.forwards = 0
            places = tuple(samples[i] for i in rows.tolist()) if self._entry.searches else samples
            keys = {"draw": draw, "samples": places} if self._entry.keyed else {}
            with seeded(self.kind, self._seed, level, draw, samples.start, device=pixels.device):
                evaluated[rows], reason[rows] = self._run(target, inputs[rows], labels[rows], level, keys)
            forwards[rows] += _shares(counted.forwards, rows)
            backwards[rows] += _shares(counted.backwards, rows)
        prediction = predict(counted, evaluated)
        forwards += 1
        wrong = prediction != labels
        reason.masked_fill_((reason == Reason.ADVERSARIAL) & ~wrong, Reason.NOT_ADVERSARIAL)
        success = reason == Reason.ADVERSARIAL
        return {
            "prediction": prediction,
            "success": success,
            "distance": self._distance(inputs, evaluated),
            "reason": reason,
            "rounded": success & self._wrong_rounded(model, evaluated, labels, wrong),
            "forwards": forwards,
            "backwards": backwards,
        }

    def picture(
        self, pixels: Tensor, labels: Tensor, *, level: float, draw: int, samples: range
    ) -> Tensor | None:
        """What ``__call__`` evaluates, as pixels to look at; None where that takes a model."""
        if self._entry.searches:
            return None
        target = PyTorchModel(nn.Identity().eval(), self._space.bounds, device=pixels.device)
        keys = {"draw": draw, "samples": samples} if self._entry.keyed else {}
        with seeded(self.kind, self._seed, level, draw, samples.start, device=pixels.device):
            shown, _ = self._run(target, self._space.enter(pixels), labels, level, keys)
        return self._space.leave(shown).clamp(0, 1)

    def _rows(self, target: nn.Module, inputs: Tensor, labels: Tensor, level: float) -> Tensor:
        """The samples of the block to attack, int64 (at most m,)."""
        if level == 0:
            return labels.new_empty(0)
        if not self._entry.searches:
            return torch.arange(len(labels), device=labels.device)
        return (predict(target, inputs) == labels).nonzero()[:, 0]

    def _run(
        self,
        target: PyTorchModel,
        inputs: Tensor,
        labels: Tensor,
        level: float,
        keys: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        """The inputs to evaluate and the reasons so far: what fails a check stays as it was."""
        epsilon = level if isinstance(self._attack, FixedEpsilonAttack) else math.inf
        if epsilon < math.inf:
            keys = {**keys, "epsilon": epsilon}
        try:
            # Foolbox's own __call__ would clip to epsilon and ask the model once more.
            with torch.enable_grad():
                found = self._attack.run(target, inputs.clone(), Misclassification(labels), **keys)
            if found.shape != inputs.shape:
                raise ValueError(f"shape {tuple(found.shape)} for {tuple(inputs.shape)}")
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            logger.warning(
                "%s: %r at strength %g for a block of %d samples, which count as robust",
                self.kind,
                error,
                level,
                len(labels),
            )
            return inputs, torch.full_like(labels, Reason.RAISED, dtype=torch.uint8)
        found = found.detach().to(inputs)
        lower, upper = self._space.bounds
        reason = torch.full_like(labels, Reason.ADVERSARIAL, dtype=torch.uint8)
        limit = epsilon * (1 + TOLERANCE) + SPACING * max(1, upper)
        reason.masked_fill_(self._distance(inputs, found) > limit, Reason.BEYOND_EPSILON)
        outside = (found < lower) | (found > upper)
        reason.masked_fill_(outside.flatten(1).any(dim=1), Reason.OUT_OF_BOUNDS)
        reason.masked_fill_(~found.isfinite().flatten(1).all(dim=1), Reason.NOT_FINITE)
        passed = (reason == Reason.ADVERSARIAL).view(-1, 1, 1, 1)
        return torch.where(passed, found, inputs), reason

    def _distance(self, inputs: Tensor, perturbed: Tensor) -> Tensor:
        """Float32 (m,) in the attack's norm; NaN where the attack has none (rotations)."""
        distance = getattr(self._attack, "distance", None)
        if distance is None:
            return torch.full_like(inputs[:, 0, 0, 0], math.nan)
        result: Tensor = distance(inputs, perturbed)
        return result.float()

    def _wrong_rounded(self, model: nn.Module, evaluated: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
        """Which samples (m,) are misclassified when stored as images of 8 bits?"""
        pixels = self._space.leave(evaluated)
        rounded = (pixels.clamp(0, 1) * 255).round() / 255
        if torch.allclose(rounded, pixels, rtol=0, atol=1e-6):
            return wrong  # they are such images: the model need not be asked again
        return predict(model, rounded) != labels


def _shares(total: int, rows: Tensor) -> Tensor:
    """``total`` passes spread evenly over ``rows``, int32, adding up exactly.

    An attack may pass a part of the block, or copies of it, so a pass has no sample of its own.
    """
    shares = torch.full_like(rows, total // len(rows), dtype=torch.int32)
    shares[: total % len(rows)] += 1
    return shares


@contextmanager
def seeded(*key: object, device: torch.device) -> Iterator[None]:
    """Seed torch's and numpy's global generators from ``key``, and put their states back after.

    Foolbox draws from both; nothing else can be handed to it.
    """
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4])
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Not torch.manual_seed: it seeds every device there is, and only this one's state is put back.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
