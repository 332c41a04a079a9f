"""The guard: runs a Foolbox attack on one block of samples and believes nothing that it returns."""

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from foolbox.attacks.base import FixedEpsilonAttack
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.counting_model import CountingModel, PassCounter
from blrobust.attacks.status import Status
from blrobust.errors import UserError
from blrobust.perturbations.base import predict
from blrobust.perturbations.input_space import PIXELS, Space
from blrobust.perturbations.random_numbers import CACHE_BYTES

TOLERANCE = 1e-6  # relative to epsilon
SPACING = 2.0**-24  # what rounding x + delta to float32 can add to |delta|, for inputs up to 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Block:
    """The samples of a block that are attacked: (m, C, H, W), (m,), (m,), and their ids in the data set."""

    inputs: Tensor
    labels: Tensor
    targets: Tensor
    sample_ids: tuple[int, ...]

    def part(self, rows: Tensor) -> "_Block":
        """Some of the samples, int64 (k,)."""
        sample_ids = tuple(self.sample_ids[row] for row in rows.tolist())
        return _Block(self.inputs[rows], self.labels[rows], self.targets[rows], sample_ids)


@dataclass(frozen=True)
class _Chosen:
    """Whom to attack, kept for the next strength: rows of the block int64 (k,) and their ids in the data set.

    Of the whole block (m,): the classes to aim at, int64, and why the others are spared, uint8.
    """

    rows: Tensor
    sample_ids: tuple[int, ...]
    targets: Tensor
    status: Tensor


@dataclass(frozen=True)
class _Found:
    """What an attack returned, checked, with its status and all its passes."""

    inputs: Tensor
    status: Tensor
    forwards: int
    backwards: int


class Guard:
    """An attack as a perturbation that a sweep can run: seeded, checked, counted.

    A sample whose returned input fails a check is evaluated as it was: it counts as robust, and
    the status says why. Every sample is evaluated once, after the checks; that is its prediction.
    With a ``source`` the attack sees that model, and what it returns is tried on another. A guard is for
    one data set and for models that do not change: what a model answers to clean samples is kept.
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
        self.one_search_for_all_levels = spec.is_search and spec.minimal
        self._space = space
        self._spec = spec
        self._seed = seed
        self._parameters = dict(spec.budget() if parameters is None else parameters)
        self._restarts = int(self._parameters.get("restarts", 1))
        self._target = target
        self._source = source
        self._answered: WeakKeyDictionary[nn.Module, dict[range, Tensor]] = WeakKeyDictionary()
        self._chosen: WeakKeyDictionary[nn.Module, dict[range, _Chosen]] = WeakKeyDictionary()
        self._crafted: dict[tuple[float, int, range], _Found] = {}
        self._room = CACHE_BYTES
        self._counter = PassCounter()
        try:
            self._attack: Any = spec.build(seed=seed, parameters=self._parameters)
        except ValueError as error:  # what is wrong with a parameter is said at once
            raise UserError(f"attack {kind!r}: {error}") from error

    @property
    def passes(self) -> int:
        """Images that went through models so far, those of an unfinished block too."""
        return self._counter.forwards

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
        """``measure`` at one strength."""
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
    ) -> list[dict[str, Tensor]]:
        """Attack pixels (m, C, H, W) in [0, 1], labels int64 (m,), at several strengths.

        An attack that searches for the smallest perturbation runs once for all of them. Returns for
        each strength tensors (m,): prediction int16, success bool, distance float32 (of the
        evaluated input, in the attack's norm), reason uint8 (`Status`), rounded bool (the success
        survives rounding to 8 bits), forwards and backwards int32 (the guard's own questions, about
        the clean input and about rounding, left out), of smallest perturbations minimal float32
        (their distance, infinity where none was found), with ``keep`` also pixels (m, C, H, W).
        """
        inputs = self._space.enter(pixels)
        # A random perturbation asks nothing about the clean input.
        needed = self._spec.is_search or min(levels) == 0
        clean = self._clean(model, inputs, samples) if needed else torch.full_like(labels, -1).short()
        block, rows, spared = self._attacked(model, inputs, labels, samples)
        nobody = torch.full_like(labels, Status.NOT_ATTACKED, dtype=torch.uint8)
        passes = torch.zeros_like(labels, dtype=torch.int32)
        results: list[dict[str, Tensor]] = []
        found: tuple[Tensor, dict[str, Tensor]] | None = None
        for level in levels:
            if level == 0 or len(block.labels) == 0:
                status = spared if level > 0 else nobody
                evaluated, result = inputs, self._untouched(inputs, clean, status)
                result |= {"forwards": passes + 1, "backwards": passes.clone()}
            else:
                if found is None or not self.one_search_for_all_levels:
                    crafted = self._craft(model, block, level, draw, samples)
                    evaluated, status = crafted.inputs, crafted.status
                    forwards, backwards = (_shares(n, status) for n in (crafted.forwards, crafted.backwards))
                    if rows is not None:
                        evaluated = inputs.index_put((rows,), evaluated)
                        status = spared.index_put((rows,), status)
                        forwards = passes.index_put((rows,), forwards)
                        backwards = passes.index_put((rows,), backwards)
                    result = self._outcome(model, inputs, labels, evaluated, status)
                    result |= {"forwards": forwards + 1, "backwards": backwards}
                    found = evaluated, result
                evaluated, result = found
            if self.one_search_for_all_levels:
                result = result | _within(result, level, labels, clean, self._limit(level, inputs))
            if keep:
                kept = result["success"].view(-1, 1, 1, 1)
                result = result | {"pixels": self._space.leave(torch.where(kept, evaluated, inputs))}
            results.append(result)
        return results

    def picture(
        self, pixels: Tensor, labels: Tensor, *, level: float, draw: int, samples: range
    ) -> Tensor | None:
        """What ``__call__`` evaluates, as pixels to look at; None where that takes a model."""
        if self._spec.is_search:
            return None
        inputs = self._space.enter(pixels)
        target = PyTorchModel(nn.Identity().eval(), self._space.bounds, device=pixels.device)
        block = _Block(inputs, labels, labels, tuple(samples))
        with seeded(self.kind, self._seed, level, draw, samples.start, device=pixels.device):
            shown, _ = self._run(target, block, level, draw)
        return self._space.leave(shown).clamp(0, 1)

    def _clean(self, model: nn.Module, inputs: Tensor, samples: range) -> Tensor:
        """The answers to a block as it is, kept for the next strength."""
        kept = self._answered.setdefault(model, {})
        if samples not in kept:
            kept[samples] = predict(CountingModel(model, self._space, self._counter), inputs)
        return kept[samples]

    def _attacked(
        self, model: nn.Module, inputs: Tensor, labels: Tensor, samples: range
    ) -> tuple[_Block, Tensor | None, Tensor]:
        """The samples of the block to attack, where they are in it, int64 (k,) or None for all, and why
        others are not, uint8 (m,).
        """
        if not self._spec.is_search:
            nobody = torch.full_like(labels, Status.NOT_ATTACKED, dtype=torch.uint8)
            return _Block(inputs, labels, labels, tuple(samples)), None, nobody
        seen = self._source or model
        kept = self._chosen.setdefault(seen, {})
        if samples not in kept:
            kept[samples] = self._choose(seen, inputs, labels, samples)
        chosen = kept[samples]
        rows = chosen.rows
        block = _Block(inputs[rows], labels[rows], chosen.targets[rows], chosen.sample_ids)
        return block, rows, chosen.status

    def _choose(self, model: nn.Module, inputs: Tensor, labels: Tensor, samples: range) -> _Chosen:
        """Those that ``model`` gets right and whose label is not the class to aim at.

        That class is the one given, or the most likely wrong one.
        """
        right = self._clean(model, inputs, samples) == labels
        targets = labels
        status = torch.full_like(labels, Status.NOT_ATTACKED, dtype=torch.uint8)
        if self._spec.targeted:
            if self._target is None:
                logits = CountingModel(model, self._space, self._counter)(inputs)
                targets = logits.scatter(1, labels[:, None], -math.inf).argmax(1)
            else:
                targets = torch.full_like(labels, self._target)
            status.masked_fill_(targets == labels, Status.IS_TARGET)
            right = right & (targets != labels)
        rows = right.nonzero()[:, 0]
        return _Chosen(rows, tuple(samples[row] for row in rows.tolist()), targets, status)

    def _craft(self, model: nn.Module, block: _Block, level: float, draw: int, samples: range) -> _Found:
        """What the attack finds; of a source it is kept for the other models that it is tried on."""
        key = (math.inf if self.one_search_for_all_levels else level, draw, samples)
        if key in self._crafted:
            return self._crafted[key]
        counted = CountingModel(self._source or model, self._space, self._counter)
        inputs, status = self._search(counted, block, level, draw, samples)
        found = _Found(inputs, status, counted.forwards, counted.backwards)
        if self._source is not None and inputs.nbytes <= self._room:
            self._crafted[key] = found
            self._room -= inputs.nbytes
        return found

    def _search(
        self, counted: CountingModel, block: _Block, level: float, draw: int, samples: range
    ) -> tuple[Tensor, Tensor]:
        """The inputs to evaluate and the status so far: the best of the restarts."""
        target = PyTorchModel(counted, self._space.bounds, device=block.inputs.device)
        key = (self.kind, self._seed, "all" if self.one_search_for_all_levels else level, draw, samples.start)
        if self._restarts == 1:
            with seeded(*key, device=block.inputs.device):
                return self._run(target, block, level, draw)
        best, status = block.inputs.clone(), torch.full_like(block.labels, Status.NOT_ADVERSARIAL).byte()
        shortest = torch.full_like(best[:, 0, 0, 0], math.inf)
        fooled = torch.zeros_like(block.labels, dtype=torch.bool)
        rows = torch.arange(len(status), device=status.device)
        for restart in range(self._restarts):
            part = block.part(rows) if restart else block
            # The first run draws what it would without any restarts.
            with seeded(*key, *([restart] if restart else []), device=best.device):
                found, why = self._run(target, part, level, draw + restart * (1 << 20))
            fools = (why == Status.ADVERSARIAL) & (predict(counted, found) != part.labels)
            distance = self._distance(part.inputs, found).nan_to_num(0)
            better = fools & (distance < shortest[rows])
            shortest[rows[better]] = distance[better]
            # What does not fool the model attacked may fool the one that it is tried on.
            changed = better | ~fooled[rows]
            best[rows[changed]], status[rows[changed]] = found[changed], why[changed]
            fooled[rows] |= fools
            if not self.one_search_for_all_levels:
                rows = (~fooled).nonzero()[:, 0]
            if len(rows) == 0:
                break
        return best, status

    def _run(self, target: PyTorchModel, block: _Block, level: float, draw: int) -> tuple[Tensor, Tensor]:
        """One run of the attack: what to evaluate, and the status: what fails a check stays as it was.

        Where the attack raises, or memory ends, the halves of the block are tried by themselves: one
        sample that an attack cannot start from does not cost the others theirs.
        """
        attack = self._attack
        keys: dict[str, Any] = {}
        if self._spec.per_sample_seed:
            keys |= {"draw": draw, "samples": block.sample_ids}
        if isinstance(attack, FixedEpsilonAttack):
            keys["epsilon"] = level
        criterion: Any = Misclassification(block.labels)
        if self._spec.targeted:
            criterion = TargetedMisclassification(block.targets)
        found = None
        try:
            # Foolbox's own __call__ would clip to epsilon and ask the model once more.
            with torch.enable_grad():
                found = attack.run(target, block.inputs.clone(), criterion, **keys)
            if found.shape != block.inputs.shape:
                raise ValueError(f"shape {tuple(found.shape)} for {tuple(block.inputs.shape)}")
        except UserError:
            raise
        except Exception as error:
            found = None
            out_of_memory = _is_out_of_memory(error)
            if out_of_memory and len(block.labels) == 1:
                raise torch.OutOfMemoryError(str(error)) from error
            if len(block.labels) == 1:
                logger.warning(
                    "%s: %r at strength %g for sample %d, which counts as robust",
                    self.kind,
                    error,
                    level,
                    block.sample_ids[0],
                )
                return block.inputs, torch.full_like(block.labels, Status.RAISED, dtype=torch.uint8)
        if found is None:
            # Only out here is the error gone, and with it the tensors of the frames that it came through.
            if out_of_memory and block.inputs.is_cuda:
                torch.cuda.empty_cache()
            halves = torch.arange(len(block.labels), device=block.labels.device).chunk(2)
            parts = [self._run(target, block.part(half), level, draw) for half in halves]
            inputs, status = zip(*parts, strict=True)
            return torch.cat(inputs), torch.cat(status)
        limit = self._limit(level, block.inputs) if isinstance(attack, FixedEpsilonAttack) else math.inf
        return self._checked(block.inputs, found.detach().to(block.inputs), limit)

    def _checked(self, inputs: Tensor, found: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        """What to evaluate of what an attack returned, and why not."""
        lower, upper = self._space.bounds
        status = torch.full_like(inputs[:, 0, 0, 0], Status.ADVERSARIAL, dtype=torch.uint8)
        status.masked_fill_(self._distance(inputs, found) > limit, Status.BEYOND_EPSILON)
        outside = (found < lower) | (found > upper)
        status.masked_fill_(outside.flatten(1).any(dim=1), Status.OUT_OF_BOUNDS)
        status.masked_fill_(~found.isfinite().flatten(1).all(dim=1), Status.NOT_FINITE)
        passed = (status == Status.ADVERSARIAL).view(-1, 1, 1, 1)
        return torch.where(passed, found, inputs), status

    def _untouched(self, inputs: Tensor, clean: Tensor, status: Tensor) -> dict[str, Tensor]:
        """The outcome where nobody is attacked, for this ``status``, uint8 (m,)."""
        return {
            "prediction": clean.clone(),
            "success": torch.zeros_like(clean, dtype=torch.bool),
            "distance": self._distance(inputs, inputs),
            "reason": status,
            "rounded": torch.zeros_like(clean, dtype=torch.bool),
        }

    def _outcome(
        self, model: nn.Module, inputs: Tensor, labels: Tensor, evaluated: Tensor, status: Tensor
    ) -> dict[str, Tensor]:
        """Evaluate a block after the checks."""
        counted = CountingModel(model, self._space, self._counter)
        pixels = self._space.leave(evaluated)
        stored = (pixels.clamp(0, 1) * 255).round() / 255  # as an image of 8 bits
        # Asked before the model is, so that a GPU has that to do while it is waited for.
        same = torch.allclose(stored, pixels, rtol=0, atol=1e-6)
        prediction = predict(counted, evaluated)
        wrong = prediction != labels
        status = status.masked_fill((status == Status.ADVERSARIAL) & ~wrong, Status.NOT_ADVERSARIAL)
        success = status == Status.ADVERSARIAL
        return {
            "prediction": prediction,
            "success": success,
            "distance": self._distance(inputs, evaluated),
            "reason": status,
            "rounded": success if same else success & (predict(model, stored) != labels),
        }

    def _limit(self, level: float, inputs: Tensor) -> float:
        """The largest distance of inputs (m, C, H, W) at a strength, with what rounding may add."""
        rounding = SPACING * max(1, self._space.bounds[1])
        if self._spec.norm == "L1":  # a sum: roundings of either sign grow with the root of their number
            rounding *= math.sqrt(inputs[0].numel())
        return level * (1 + TOLERANCE) + rounding

    def _distance(self, inputs: Tensor, perturbed: Tensor) -> Tensor:
        """Float32 (m,) in the attack's norm; NaN where the attack has none (rotations)."""
        distance = getattr(self._attack, "distance", None)
        if distance is None:
            return torch.full_like(inputs[:, 0, 0, 0], math.nan)
        result: Tensor = distance(inputs, perturbed)
        return result.float()


def _within(
    result: dict[str, Tensor], level: float, labels: Tensor, clean: Tensor, limit: float
) -> dict[str, Tensor]:
    """The outcome at one strength of a search for the smallest perturbation."""
    far = result["distance"] > limit  # also what fools nobody: with a source it may put a wrong sample right
    minimal = torch.where(result["success"], result["distance"], math.inf)
    return {
        "prediction": torch.where(far, clean, result["prediction"]),
        "success": result["success"] & ~far,
        "distance": result["distance"].masked_fill(far, 0),
        "reason": result["reason"].masked_fill(far & result["success"], Status.TOO_FAR),
        "rounded": result["rounded"] & ~far,
        "minimal": minimal if level > 0 else torch.full_like(minimal, math.inf),
    }


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU or the CPU is full; torch has a class of its own for CUDA alone."""
    said = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in said)


def _shares(total: int, like: Tensor) -> Tensor:
    """``total`` passes spread evenly over as many samples as ``like`` has, int32, adding up exactly.

    An attack may pass a part of the block, or copies of it, so a pass has no sample of its own.
    """
    shares = torch.full_like(like, total // len(like), dtype=torch.int32)
    shares[: total % len(like)] += 1
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
