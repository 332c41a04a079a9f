"""The guard: an attack as a perturbation, the effect of which can be measured at several levels."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.counting_model import CountingModel, PassCounter, gives_gradients
from blrobust.attacks.guard.block import Block
from blrobust.attacks.guard.execution import Execution
from blrobust.attacks.guard.mean_logits import MeanLogits
from blrobust.attacks.guard.outcome import Outcome, evaluate, passes_per_sample, untouched, within
from blrobust.attacks.guard.selection import Selection, Selector
from blrobust.attacks.status import REJECTED, Status
from blrobust.models.own_model import OwnModel
from blrobust.perturbations.input_space import PIXELS, Space
from blrobust.perturbations.random_numbers import CACHE_BYTES
from blrobust.perturbations.seeding import seeded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Crafted:
    """Checked results of an attack (k, C, H, W), their status, uint8 (k,), and counts of images in passes."""

    inputs: Tensor
    status: Tensor
    forwards: int
    backwards: int


class Guard:
    """Runs an attack at given levels with fixed seeds, checks its results, and counts its model passes.

    If an input that the attack returns fails a check, the unperturbed sample is evaluated in its place. The
    sample then counts as robust, and its `reason` (see `measure`) names the check. The same happens with all
    samples if the attack needs gradients and the model has none. But if an ensemble has a member that needs
    no gradients, this member runs alone (`AttackSpec.without_gradients`).

    Every sample is evaluated once, after the checks, for its prediction. With a `source`, the attack runs on
    that model, and its results are evaluated on the model given to `measure`. `target` is the class that a
    targeted attack aims at, by default the most likely wrong class. A guard stores the classification of
    clean samples, so it must be used with one data set only, and with models that do not change.

    `parameters` are by default those of the attack. Raises `UserError` for parameters that the attack does
    not accept.
    """

    def __init__(
        self,
        kind: str,
        spec: AttackSpec,
        *,
        seed: int,
        space: Space = PIXELS,
        parameters: Mapping[str, Any] | None = None,
        target: int | None = None,
        source: nn.Module | None = None,
    ) -> None:
        self.kind = kind
        self.space = space.name
        self._space = space
        self._spec = spec
        self._source = source
        self._counter = PassCounter()
        self._selector = Selector(spec, seed=seed, space=space, counter=self._counter, target=target)
        given = spec.budget() if parameters is None else parameters
        self._seed = seed
        self._eot = int(given.get("eot", 1))
        self._execution = Execution(kind, spec, seed=seed, space=space, parameters=given)
        member = spec.without_gradients(given)
        self._member_alone = None
        if member is not None:
            self._member_alone = Execution(kind, spec, seed=seed, space=space, parameters=member)
        self._reported: WeakSet[nn.Module] = WeakSet()
        self.one_search_for_all_levels = self._execution.one_search_for_all_levels
        self._crafted: dict[tuple[float, int, range], _Crafted] = {}
        self._room = CACHE_BYTES

    @property
    def passes(self) -> int:
        """The number of images in forward passes so far, including those of an unfinished measurement."""
        return self._counter.forwards

    def check_classes(self, classes: int) -> None:
        """Raise `UserError` if the attack needs models of more than `classes` classes."""
        self._execution.check_classes(classes)

    def __call__(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        level: float,
        draw: int,
        samples: range,
    ) -> Outcome:
        """Return the dictionary of tensors that the method `measure` returns for one level."""
        return self.measure(model, pixels, labels, levels=[level], draw=draw, samples=samples)[0]

    @torch.no_grad()
    def measure(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        levels: Sequence[float],
        draw: int,
        samples: range,
        keep: bool = False,
    ) -> list[Outcome]:
        """Attack pixels (m, C, H, W) in [0, 1] with labels int64 (m,) at several levels.

        A search for the smallest perturbation runs once for all levels. `samples` are the positions of the
        images in the data set, and `draw` is the index of a repetition with other random numbers. Returns for
        each level a dictionary of tensors (m,):

        - those of the function `classify`, success bool, and reason uint8 (a `Status`);
        - distance float32, from the clean to the evaluated input, in the attack's norm;
        - rounded bool: whether the success survives rounding to 8 bits;
        - forwards and backwards int32: the passes of the attack and the final forward pass, without the
          guard's passes of clean and rounded inputs;
        - minimal float32, only for searches for the smallest perturbation: its norm, or infinity without a
          success and at level 0;
        - pixels (m, C, H, W), only with `keep`: the perturbed images of successes, otherwise the clean
          images.

        Raises `UserError` for a level or a parameter that is not legal for images of this size. Raises
        `torch.OutOfMemoryError` if even a single sample does not fit into memory.
        """
        inputs = self._space.enter(pixels)
        # A random perturbation does not depend on clean predictions.
        needed = self._spec.is_search or min(levels) == 0
        clean: Outcome = {}
        if needed:
            clean = self._selector.clean(model, inputs, labels, samples)
        selection = self._selector.select(self._source or model, inputs, labels, samples)
        outcomes: list[Outcome] = []
        found: tuple[Tensor, Outcome] | None = None
        for level in levels:
            if level == 0 or len(selection.block.labels) == 0:
                not_attacked = torch.full_like(selection.status, Status.NOT_ATTACKED)
                status = selection.status if level > 0 else not_attacked
                evaluated, outcome = inputs, untouched(inputs, clean, status, self._execution.checks)
            else:
                if found is None or not self.one_search_for_all_levels:
                    crafted = self._craft(model, selection.block, level, draw, samples)
                    at = "all" if self.one_search_for_all_levels else level
                    key = ("evaluate", self.kind, self._seed, at, draw, samples.start)
                    with seeded(*key, device=inputs.device):
                        found = self._evaluate(model, inputs, labels, selection, crafted)
                evaluated, outcome = found
            if self.one_search_for_all_levels:
                limit = self._execution.checks.limit(level, inputs)
                outcome = outcome | within(outcome, level, clean, limit)
            if keep:
                kept = outcome["success"].view(-1, 1, 1, 1)
                outcome = outcome | {"pixels": self._space.leave(torch.where(kept, evaluated, inputs))}
            outcomes.append(outcome)
        return outcomes

    def picture(
        self, pixels: Tensor, labels: Tensor, *, level: float, draw: int, samples: range
    ) -> Tensor | None:
        """Return the inputs that `measure` evaluates, as pixels in [0, 1].

        The result is None if the attack is a search, or if for any image the attack raised an error or
        returned an input that failed a check.
        """
        if self._spec.is_search:
            return None
        block = Block(self._space.enter(pixels), labels, labels, tuple(samples))
        shown, status = self._execution.best(
            nn.Identity().eval(), block, level=level, draw=draw, start=samples.start
        )
        if any(code in REJECTED for code in status.tolist()):
            return None
        return self._space.leave(shown).clamp(0, 1)

    def _craft(self, model: nn.Module, block: Block, level: float, draw: int, samples: range) -> _Crafted:
        """Return the results of the attack; results on a `source` are kept for the next evaluated model."""
        key = (math.inf if self.one_search_for_all_levels else level, draw, samples)
        if key in self._crafted:
            return self._crafted[key]
        seen = self._source or model
        execution: Execution | None = self._execution
        if self._spec.gradients and not gives_gradients(seen, self._space.leave(block.inputs)):
            execution = self._without_gradients(seen)
        if execution is None:
            none = torch.full_like(block.labels, Status.RAISED, dtype=torch.uint8)
            return _Crafted(block.inputs, none, forwards=0, backwards=0)
        counted = CountingModel(seen, self._space, self._counter)
        attacked = counted if self._eot == 1 else MeanLogits(counted, self._eot)
        inputs, status = execution.best(attacked, block, level=level, draw=draw, start=samples.start)
        crafted = _Crafted(inputs, status, counted.forwards, counted.backwards)
        if self._source is not None and inputs.nbytes <= self._room:
            self._crafted[key] = crafted
            self._room -= inputs.nbytes
        return crafted

    def _without_gradients(self, model: nn.Module) -> Execution | None:
        """Return the part of the attack that runs on a model without gradients, or None if there is none.

        If the attack has such a part, the first call for each model logs a warning.
        """
        if self._member_alone is not None and model not in self._reported:
            self._reported.add(model)
            own = next((part.label for part in model.modules() if isinstance(part, OwnModel)), None)
            name = type(model).__name__ if own is None else repr(own)
            member = self._spec.gradient_free_member
            logger.warning("%s: of its attacks only %s runs on model %s", self.kind, member, name)
        return self._member_alone

    def _evaluate(
        self, model: nn.Module, inputs: Tensor, labels: Tensor, selection: Selection, crafted: _Crafted
    ) -> tuple[Tensor, Outcome]:
        """Return the evaluated inputs (m, C, H, W), and the tensors of `measure` for all m samples."""
        evaluated, status = crafted.inputs, crafted.status
        forwards, backwards = (
            passes_per_sample(count, status) for count in (crafted.forwards, crafted.backwards)
        )
        if selection.rows is not None:
            rows = (selection.rows,)
            evaluated = inputs.index_put(rows, evaluated)
            status = selection.status.index_put(rows, status)
            none = torch.zeros_like(status, dtype=torch.int32)
            forwards, backwards = none.index_put(rows, forwards), none.index_put(rows, backwards)
        counted = CountingModel(model, self._space, self._counter)
        outcome = evaluate(counted, inputs, labels, evaluated, status, self._execution.checks)
        return evaluated, outcome | {"forwards": forwards + 1, "backwards": backwards}
