"""Execution of an attack on a batch of samples, with restarts, and on half batches after an error."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from foolbox.attacks.base import FixedEpsilonAttack
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.guard.block import Block
from blrobust.attacks.guard.checks import Checks
from blrobust.attacks.status import Status
from blrobust.errors import UserError, describe, message
from blrobust.perturbations.base import is_out_of_memory, predict
from blrobust.perturbations.input_space import Space
from blrobust.perturbations.seeding import seeded
from blrobust.user_output import masked

DRAWS = 1 << 20  # added to `draw` for each restart; larger than any `draw` of the user

logger = logging.getLogger(__name__)


class Execution:
    """Runs an attack on blocks (batches) of samples and checks its results.

    Raises `UserError` for a parameter that the attack does not accept.
    """

    def __init__(
        self, kind: str, spec: AttackSpec, *, seed: int, space: Space, parameters: Mapping[str, Any]
    ) -> None:
        self._kind = kind
        self._spec = spec
        self._seed = seed
        self._space = space
        self._restarts = int(parameters.get("restarts", 1))
        try:
            self._attack: Any = spec.build(seed=seed, parameters=parameters)
        except ValueError as error:
            raise UserError(f"attack {kind!r}: {error}") from error
        self.one_search_for_all_levels = spec.is_search and spec.minimal
        # Error text without its numbers -> the full text, and the ids of the samples that failed since the
        # last report.
        self._failures: dict[str, tuple[str, list[int]]] = {}
        self._reported: set[str] = set()
        self.checks = Checks(self._attack, norm=spec.norm, space=space)

    def check_classes(self, classes: int) -> None:
        """Raise `UserError` if the attack needs a model of more than `classes` classes."""
        least = getattr(self._attack, "least_classes", 1)
        if classes >= least:
            return
        hint = getattr(self._attack, "hint_for_classes", lambda classes: None)(classes)
        raise UserError(
            f"attack {self._kind!r}: got {classes} classes; legal: at least {least}"
            + (f"; give the parameter {self._kind}.{hint}" if hint else "")
        )

    def best(
        self, model: nn.Module, block: Block, *, level: float, draw: int, start: int
    ) -> tuple[Tensor, Tensor]:
        """Return the best result of all restarts: inputs to evaluate (m, C, H, W), their status, uint8 (m,).

        `draw` is the index of a repetition and `start` the first id of the block in the data set; both are
        part of the seed. Logs each kind of error when it first occurs, with the number of samples of this
        block that failed.
        """
        self._failures = {}
        found = self._best(model, block, level=level, draw=draw, start=start)
        for cause, (error, ids) in self._failures.items():
            if cause not in self._reported:
                self._reported.add(cause)
                logger.warning(
                    "%s: %s at strength %g for %d of %d samples (the first is %d), which count as robust; "
                    "the report counts all further ones as rejected",
                    self._kind, error, level, len(set(ids)), len(block.labels), ids[0],
                )  # fmt: skip
        return found

    def _best(
        self, model: nn.Module, block: Block, *, level: float, draw: int, start: int
    ) -> tuple[Tensor, Tensor]:
        """Return the result of the method `best`, without logging errors.

        A restart attacks the samples that do not fool `model` yet. If the attack searches for the smallest
        perturbation, a restart attacks all samples again, and the smallest perturbation found is the result.
        """
        device = block.inputs.device
        target = PyTorchModel(model, self._space.bounds, device=device)
        each_level = "all" if self.one_search_for_all_levels else level
        key = (self._kind, self._seed, each_level, draw, start)
        if self._restarts == 1:
            with seeded(*key, device=device):
                return self._run(target, block, level, draw)
        best, status = block.inputs.clone(), torch.full_like(block.labels, Status.NOT_ADVERSARIAL).byte()
        shortest = torch.full_like(best[:, 0, 0, 0], math.inf)
        fooled = torch.zeros_like(block.labels, dtype=torch.bool)
        rows = torch.arange(len(status), device=device)
        for restart in range(self._restarts):
            part = block.part(rows) if restart else block
            # The first run draws the same numbers as without any restarts.
            with seeded(*key, *([restart] if restart else []), device=device):
                found, part_status = self._run(target, part, level, draw + restart * DRAWS)
                fools = (part_status == Status.ADVERSARIAL) & (predict(model, found) != part.labels)
            distance = self.checks.distance(part.inputs, found).nan_to_num(0)
            better = fools & (distance < shortest[rows])
            shortest[rows[better]] = distance[better]
            # An input that does not fool this model may fool another one, on which it is evaluated.
            changed = better | ~fooled[rows]
            best[rows[changed]], status[rows[changed]] = found[changed], part_status[changed]
            fooled[rows] |= fools
            if not self.one_search_for_all_levels:
                rows = (~fooled).nonzero()[:, 0]
            if len(rows) == 0:
                break
        return best, status

    def _run(self, target: PyTorchModel, block: Block, level: float, draw: int) -> tuple[Tensor, Tensor]:
        """Return the result of one run of the attack: inputs to evaluate (m, C, H, W), status uint8 (m,).

        After an error, or if memory is full, each half of the block runs separately. So a sample for which
        the attack raises an error does not affect the others.
        """
        found, out_of_memory = None, False
        try:
            found = self._call(target, block, level, draw)
        except UserError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also of a backward pass through the user's code
            out_of_memory = is_out_of_memory(error)
            if len(block.labels) == 1:
                if out_of_memory:
                    raise torch.OutOfMemoryError(message(error)) from error
                text = describe(error)
                self._failures.setdefault(masked(text), (text, []))[1].append(block.sample_ids[0])
                return block.inputs, torch.full_like(block.labels, Status.RAISED, dtype=torch.uint8)
        if found is None:
            # Not in the except block, where the traceback of the error would keep tensors in memory.
            if out_of_memory and block.inputs.is_cuda:
                torch.cuda.empty_cache()
            halves = torch.arange(len(block.labels), device=block.labels.device).chunk(2)
            parts = [self._run(target, block.part(half), level, draw) for half in halves]
            inputs, status = zip(*parts, strict=True)
            return torch.cat(inputs), torch.cat(status)
        fixed = isinstance(self._attack, FixedEpsilonAttack)
        limit = self.checks.limit(level, block.inputs) if fixed else math.inf
        return self.checks.validate(block.inputs, found.detach().to(block.inputs), limit)

    def _call(self, target: PyTorchModel, block: Block, level: float, draw: int) -> Tensor:
        """Return the output of the attack's `run` (m, C, H, W).

        Raises `ValueError` if its shape differs from that of the inputs.
        """
        keys: dict[str, Any] = {}
        if self._spec.per_sample_seed:
            keys |= {"draw": draw, "samples": block.sample_ids}
        if isinstance(self._attack, FixedEpsilonAttack):
            keys["epsilon"] = level
        criterion: Any = Misclassification(block.labels)
        if self._spec.targeted:
            criterion = TargetedMisclassification(block.targets)
        # `run`, not Foolbox's `__call__`, which also clips to epsilon and queries the model once more.
        with torch.enable_grad():
            found: Tensor = self._attack.run(target, block.inputs.clone(), criterion, **keys)
        if found.shape != block.inputs.shape:
            raise ValueError(
                f"got a result of shape {tuple(found.shape)}; legal: {tuple(block.inputs.shape)}"
            )
        return found
