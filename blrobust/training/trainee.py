"""A model in training: its optimizer, its state on disk, and its history."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.errors import UserError
from blrobust.models import Classifier, checkpoint
from blrobust.models.accuracy import accuracy
from blrobust.models.checkpoint import Facts
from blrobust.models.precision import PRECISIONS, reduce_precision
from blrobust.training import history
from blrobust.training.recipes import Recipe, completed

LOSS_SCALE = 1024.0  # for fp16: keeps small gradients above its smallest number; never overflowed here


class Trainee:
    """A model in training: its optimizer, its state on disk, and its history."""

    def __init__(self, name: str, facts: Facts, folder: Path, recipe: Recipe, device: torch.device) -> None:
        self.name = name
        self.recipe = recipe
        self.facts = replace(facts, seed=recipe.seed, recipe=asdict(recipe))
        self.path = folder / f"{name}.safetensors"
        self.state_path = folder / f"{name}.training.safetensors"
        self.lock_path = folder / f"{name}.lock"
        self.check: Callable[[], None] = lambda: None  # called before files are written or removed
        self.history_path = folder / f"{name}.history.csv"
        self.history: list[dict[str, str]] = []
        torch.manual_seed(recipe.seed)
        self.model: Classifier = facts.build().to(device).to(memory_format=torch.channels_last)
        self.dtype = PRECISIONS[facts.precision]
        self.rate = recipe.lr  # the learning rate; the tensor `lr` has it on the device
        self.lr = torch.tensor(recipe.lr, device=device)
        self.loss = torch.zeros((), device=device)  # sum over the steps of the epoch
        self.hits = torch.zeros((), device=device)  # images classified correctly, likewise
        self._drawn: Tensor | None = None  # the noise of the whole batch
        self.noise: Tensor | None = None  # the part of it that is added to the next pixels
        self._unit = torch.tensor(facts.std, device=device).view(-1, 1, 1)
        self.optimizer = self._optimizer(fused=device.type == "cuda")
        self._averages = [torch.zeros_like(t) for t in self._averaged()] if recipe.ema else []
        self._average_model: Classifier | None = None

    def _optimizer(self, *, fused: bool) -> torch.optim.SGD:
        """Return the optimizer, with a momentum of zero for every parameter."""
        parameters = list(self.model.parameters())
        decayed = [p for p in parameters if p.dim() > 1 or self.recipe.decayed == "all"]
        others = [p for p in parameters if p.dim() <= 1 and self.recipe.decayed == "weights"]
        groups = [
            {"params": decayed, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(
            groups, lr=self.lr, momentum=self.recipe.momentum, nesterov=self.recipe.nesterov, fused=fused
        )
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer

    def _averaged(self) -> list[Tensor]:
        """Return the tensors with a moving average: weights, BatchNorm's statistics, and a 1.

        The averages start at 0. That of the 1 is the sum of the weights in each average, by which it is
        divided before use.
        """
        model = self.model
        return [*model.parameters(), *_statistics(model), torch.ones((), device=self.lr.device)]

    def mixed_precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Return an autocast context for fp16 and bf16, and a context without effect for fp32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.dtype, cache_enabled=False)

    def prepare_noise(self, shape: Sequence[int], part: slice) -> None:
        """Allocate the noise for batches (batch, C, H, W) of `shape`, of which only `part` is trained on."""
        if self.recipe.noise:
            empty = torch.zeros(tuple(shape), device=self.lr.device)
            self._drawn = empty.contiguous(memory_format=torch.channels_last)
            self.noise = self._drawn[part]

    def draw_noise(self, generator: torch.Generator) -> None:
        """Draw the noise of the next step for the whole batch, if the recipe has noise.

        Every image has its own standard deviation, uniform in [0, `recipe.noise`) in normalised units.
        """
        if self._drawn is None:
            return
        size, device = len(self._drawn), self._drawn.device
        sigma = torch.rand(size, 1, 1, 1, generator=generator, device=device) * self.recipe.noise
        self._drawn.normal_(generator=generator).mul_(sigma).mul_(self._unit)

    def begin_epoch(self) -> None:
        """Set the network to training, and the sums of the epoch to 0."""
        self.model.train()
        self.loss.zero_()
        self.hits.zero_()

    def set_lr(self, epoch: int, progress: float) -> None:
        """Set the learning rate at the share `progress` of the steps of `epoch`, counted from 0."""
        losses = (float(row["loss"]) for row in self.history[:epoch])
        self.rate = self.recipe.lr_at((epoch + progress) / self.recipe.epochs, losses)
        self.lr.fill_(self.rate)

    def compute_gradients(self, pixels: Tensor, labels: Tensor) -> None:
        """Compute the gradients for pixels (batch, C, H, W) in [0, 1] and labels (batch,).

        This and `update` do not synchronise a GPU with the CPU.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if self.noise is not None:
            pixels = pixels + self.noise
        with self.mixed_precision(pixels.device):
            logits = self.model(pixels).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if self.dtype == torch.float16:
            (loss * LOSS_SCALE).backward()  # type: ignore[no-untyped-call]
            torch._foreach_mul_(self.gradients(), 1 / LOSS_SCALE)
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        self.loss += loss.detach()
        self.hits += (logits.detach().argmax(1) == labels).sum()

    def gradients(self) -> list[Tensor]:
        """Return the gradients of all parameters that have one."""
        return [p.grad for p in self.model.parameters() if p.grad is not None]

    @torch.no_grad()
    def update(self) -> None:
        """Change the weights by the gradients of `compute_gradients`, and their moving averages."""
        self.optimizer.step()
        if self._averages:
            torch._foreach_lerp_(self._averages, self._averaged(), 1 - self.recipe.ema)

    def statistics(self) -> list[Tensor]:
        """Return the tensors that differ between processes: BatchNorm's statistics, with their averages."""
        parameters = len(list(self.model.parameters()))
        return [*_statistics(self.model), *self._averages[parameters:-1]]

    @torch.no_grad()
    def stored_model(self) -> Classifier:
        """Return the network that is measured and stored: with averaged weights if the recipe has `ema`."""
        if not self._averages:
            return self.model
        if self._average_model is None:
            self._average_model = copy.deepcopy(self.model)
        model = self._average_model
        for tensor, average in zip(
            [*model.parameters(), *_statistics(model)], self._averages[:-1], strict=True
        ):
            tensor.copy_(average / self._averages[-1])
        return model

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that change in training, by name: the tensors themselves, not copies."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        for index, parameter in enumerate(self.model.parameters()):
            tensors[f"momentum.{index}"] = self.optimizer.state[parameter]["momentum_buffer"]
        return tensors | {f"average.{index}": average for index, average in enumerate(self._averages)}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Copy `tensors`, a result of `state`, into the existing tensors, which a CUDA graph may use."""
        for name, tensor in self.state().items():
            tensor.copy_(tensors[name])

    def save_state(self) -> None:
        """Write the history so far and the state, each file whole or not at all.

        The state is written last and has the number of epochs. If the process is killed between the two
        files, the history has one row too many, which `resume` drops.
        """
        self.check()
        history.write(self.history_path, self.history, self.check)
        checkpoint.save(self.state_path, self._stored(), self.facts, check=self.check)

    def _stored(self) -> dict[str, Tensor]:
        """Return the tensors of the stored state: those of `state`, and the number of finished epochs."""
        return self.state() | {"epochs": torch.tensor(len(self.history))}

    def resume(self) -> int:
        """Load the stored state, and return the number of finished epochs.

        If there is no state, the training was stopped in its first epoch, and the number is 0. Raises
        `UserError` if the state belongs to another recipe.
        """
        if not self.state_path.exists():
            return 0
        tensors, facts = checkpoint.load(self.state_path)
        if changed := _differences(self.facts, facts):
            ours, theirs = ({key: pair[side] for key, pair in changed.items()} for side in (0, 1))
            raise UserError(
                f"{self.state_path}: got {ours}; legal: {theirs}, with which the training was begun, or "
                "another folder"
            )
        checkpoint.check_fit(self.state_path, tensors, self._stored(), "this training")
        epochs = int(tensors["epochs"])
        self.history = history.read(self.history_path)[: max(0, epochs)]
        if len(self.history) != epochs or epochs > self.recipe.epochs:
            raise UserError(
                f"{self.state_path}: got the state after {epochs} epochs, of which {self.history_path} has "
                f"{len(self.history)}; legal: a row for each epoch, at most {self.recipe.epochs}"
            )
        self.restore(tensors)
        return epochs

    def finished(self) -> Facts | None:
        """Return the facts of the checkpoint if this training has finished; None if there is no checkpoint.

        A stored state of the training is removed: a process that was killed after it had written the
        checkpoint may have left it. Raises `UserError` if the checkpoint is that of another training.
        """
        if not self.path.exists():
            return None
        _, facts = checkpoint.load(self.path)
        settings = replace(facts, test_accuracy=None, holdout_accuracy=None)
        if facts.test_accuracy is None or _differences(self.facts, settings):
            raise occupied(self.path)
        self.check()
        self.state_path.unlink(missing_ok=True)
        return facts

    def finish(self, test: Dataset, device: torch.device) -> Facts:
        """Write the checkpoint, with weights in fp16 and their accuracy on `test`; return its facts."""
        facts = self.facts
        if self.history[-1]["holdout_accuracy"]:
            facts = replace(facts, holdout_accuracy=float(self.history[-1]["holdout_accuracy"]))
        stored = checkpoint.stored_state(self.stored_model())
        rounded = facts.build()
        rounded.load_state_dict({n: t.float() for n, t in stored.items()}, strict=False)
        model, _ = reduce_precision(rounded.eval(), facts.precision, device)
        with full_precision():
            facts = replace(facts, test_accuracy=accuracy(model, test, device))
        checkpoint.save(self.path, stored, facts, check=self.check)
        self.check()
        self.state_path.unlink(missing_ok=True)
        return facts


def occupied(path: Path) -> UserError:
    """Return the error for a checkpoint `path` that exists and would be replaced; the caller raises it."""
    return UserError(f"out: got a folder with {path}; legal: a folder without this file")


def _statistics(model: Classifier) -> list[Tensor]:
    """Return the running means and variances of the BatchNorm layers."""
    return [t for name, t in model.named_buffers() if name.endswith(("running_mean", "running_var"))]


def _differences(ours: Facts, theirs: Facts) -> dict[str, tuple[object, object]]:
    """Return the settings that differ between two models in training, each with both values.

    A recipe that was stored without a field has its default.
    """
    first, second = (asdict(facts) | {"recipe": None} | completed(facts.recipe) for facts in (ours, theirs))
    pairs = {key: (first.get(key), second.get(key)) for key in sorted(first.keys() | second.keys())}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
