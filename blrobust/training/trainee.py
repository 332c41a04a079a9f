"""A model in training: its optimizer, its state on disk, and its history."""

import csv
import io
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from blrobust import atomic_write
from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.errors import UserError, reason, shorten
from blrobust.models import Classifier, checkpoint
from blrobust.models.accuracy import accuracy
from blrobust.models.checkpoint import Facts
from blrobust.models.precision import PRECISIONS, reduce_precision
from blrobust.regular_file import read_bytes
from blrobust.training.recipes import Recipe

COLUMNS = ["epoch", "lr", "loss", "holdout_accuracy", "seconds"]  # columns of the history
MOST_HISTORY = 2**25  # bytes; a row has about 50
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
        self.lr = torch.tensor(recipe.lr, device=device)
        self.loss = torch.zeros((), device=device)
        self.noise: Tensor | None = None  # set by `draw_noise` and added to the next batch
        self._unit = torch.tensor(facts.std, device=device).view(-1, 1, 1)
        weights = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.SGD(
            [
                {"params": weights, "weight_decay": recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.lr,
            momentum=recipe.momentum,
            nesterov=True,
            fused=device.type == "cuda",
        )
        for parameter in self.model.parameters():
            self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def mixed_precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Return an autocast context for fp16 and bf16, and a context without effect for fp32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.dtype, cache_enabled=False)

    def draw_noise(self, like: Tensor, generator: torch.Generator) -> None:
        """Draw the noise of the next step for pixels like `like` (batch, C, H, W), if the recipe has noise.

        Every image has its own standard deviation, uniform in [0, `recipe.noise`) in normalised units.
        """
        if self.recipe.noise == 0:
            return
        if self.noise is None:
            empty = torch.empty(like.shape, device=like.device)
            self.noise = empty.contiguous(memory_format=torch.channels_last)
        sigma = torch.rand(len(like), 1, 1, 1, generator=generator, device=like.device) * self.recipe.noise
        self.noise.normal_(generator=generator).mul_(sigma).mul_(self._unit)

    def step(self, pixels: Tensor, labels: Tensor) -> None:
        """Take one training step on pixels (batch, C, H, W) in [0, 1] and labels (batch,).

        The step does not synchronise a GPU with the CPU.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if self.noise is not None:
            pixels = pixels + self.noise
        with self.mixed_precision(pixels.device):
            loss = F.cross_entropy(self.model(pixels).float(), labels)
        if self.dtype == torch.float16:
            (loss * LOSS_SCALE).backward()  # type: ignore[no-untyped-call]
            torch._foreach_mul_(
                [p.grad for p in self.model.parameters() if p.grad is not None], 1 / LOSS_SCALE
            )
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.loss += loss.detach()

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that change in training, by name: the tensors themselves, not copies."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        for index, parameter in enumerate(self.model.parameters()):
            tensors[f"momentum.{index}"] = self.optimizer.state[parameter]["momentum_buffer"]
        return tensors

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
        _write_csv(self.history_path, self.history, self.check)
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
        if facts != self.facts:
            raise UserError(
                f"{self.state_path}: got {self.facts.recipe}; legal: {facts.recipe}, with which the training "
                "was begun, or another folder"
            )
        checkpoint.check_fit(self.state_path, tensors, self._stored(), "this training")
        epochs = int(tensors["epochs"])
        self.history = _read_csv(self.history_path)[: max(0, epochs)]
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
        if settings != self.facts or facts.test_accuracy is None:
            raise occupied(self.path)
        self.check()
        self.state_path.unlink(missing_ok=True)
        return facts

    def finish(self, test: Dataset, device: torch.device) -> Facts:
        """Write the checkpoint, with weights in fp16 and their accuracy on `test`; return its facts."""
        facts = self.facts
        if self.history[-1]["holdout_accuracy"]:
            facts = replace(facts, holdout_accuracy=float(self.history[-1]["holdout_accuracy"]))
        stored = checkpoint.stored_state(self.model)
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
    """Return the error to raise if the checkpoint `path` exists and would be replaced."""
    return UserError(f"out: got a folder with {path}; legal: a folder without this file")


def _read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a history; raise `UserError` for a file that is not one."""
    try:
        text = read_bytes(path, most=MOST_HISTORY).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except UserError:
        raise
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a history: {shorten(reason(error))}") from None
    for row in rows:
        if list(row) != COLUMNS or None in row.values():
            raise UserError(f"{path}: got a row {shorten(repr(row))}; legal: {', '.join(COLUMNS)}")
    return rows


def _write_csv(path: Path, rows: list[dict[str, str]], check: Callable[[], None]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.write_text(path, text.getvalue(), check=check)
