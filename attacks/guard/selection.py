"""Selection of the samples that are attacked."""

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.counting_model import CountingModel, PassCounter
from blrobust.attacks.guard.block import Block
from blrobust.attacks.guard.outcome import Outcome
from blrobust.attacks.status import Status
from blrobust.perturbations.classification import classify
from blrobust.perturbations.input_space import Space
from blrobust.perturbations.seeding import seeded


@dataclass(frozen=True)
class Selection:
    """The samples to attack, as a batch, and the status of all samples, attacked or not.

    `rows`, int64 (k,), are the indices of the samples to attack among all m samples; None means all of them.
    `status` is uint8 (m,).
    """

    block: Block
    rows: Tensor | None
    status: Tensor


@dataclass(frozen=True)
class _Choice:
    """The part of a selection that is kept for the next level.

    `rows`, int64 (k,), are the indices of the samples to attack, and `sample_ids` are their positions in the
    data set. `targets`, int64 (m,), and `status`, uint8 (m,), are those of all m samples.
    """

    rows: Tensor
    sample_ids: tuple[int, ...]
    targets: Tensor
    status: Tensor


class Selector:
    """Selects the samples to attack, and keeps selections and clean classifications for the next level.

    A random perturbation gets all samples. A search gets those that the model classifies correctly. For a
    targeted search, the label must also differ from the target class: `target`, or the most likely wrong
    class. The forward passes are added to `counter`. `seed` fixes the random numbers that a model draws in
    these passes.
    """

    def __init__(
        self, spec: AttackSpec, *, seed: int, space: Space, counter: PassCounter, target: int | None
    ) -> None:
        self._spec = spec
        self._seed = seed
        self._space = space
        self._counter = counter
        self._target = target
        self._clean: WeakKeyDictionary[nn.Module, dict[range, Outcome]] = WeakKeyDictionary()
        self._choices: WeakKeyDictionary[nn.Module, dict[range, _Choice]] = WeakKeyDictionary()

    def clean(self, model: nn.Module, inputs: Tensor, labels: Tensor, samples: range) -> Outcome:
        """Return the result of the function `classify` for the unperturbed inputs."""
        kept = self._clean.setdefault(model, {})
        if samples not in kept:
            with seeded("clean", self._seed, samples.start, device=inputs.device):
                counted = CountingModel(model, self._space, self._counter)
                kept[samples] = classify(counted, inputs, labels)
        return kept[samples]

    def select(self, model: nn.Module, inputs: Tensor, labels: Tensor, samples: range) -> Selection:
        """Return the samples with which `model` is attacked, out of inputs (m, C, H, W) with labels (m,)."""
        if not self._spec.is_search:
            status = torch.full_like(labels, Status.NOT_ATTACKED, dtype=torch.uint8)
            return Selection(Block(inputs, labels, labels, tuple(samples)), None, status)
        kept = self._choices.setdefault(model, {})
        if samples not in kept:
            kept[samples] = self._choose(model, inputs, labels, samples)
        choice = kept[samples]
        rows = choice.rows
        block = Block(inputs[rows], labels[rows], choice.targets[rows], choice.sample_ids)
        return Selection(block, rows, choice.status)

    def _choose(self, model: nn.Module, inputs: Tensor, labels: Tensor, samples: range) -> _Choice:
        right = self.clean(model, inputs, labels, samples)["prediction"] == labels
        targets = labels
        status = torch.full_like(labels, Status.NOT_ATTACKED, dtype=torch.uint8)
        if self._spec.targeted:
            if self._target is None:
                with seeded("target", self._seed, samples.start, device=inputs.device):
                    logits = CountingModel(model, self._space, self._counter)(inputs)
                targets = logits.scatter(1, labels[:, None], -math.inf).argmax(1)
            else:
                targets = torch.full_like(labels, self._target)
            status.masked_fill_(targets == labels, Status.IS_TARGET)
            right = right & (targets != labels)
        rows = right.nonzero()[:, 0]
        return _Choice(rows, tuple(samples[row] for row in rows.tolist()), targets, status)
