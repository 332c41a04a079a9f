"""Training: one loop for every model, the data resident on the device.

Several models can be trained side by side on the same batches. Launching a network of this size
takes longer than computing it, so on a GPU the step of all models is one CUDA graph, a stream each.
"""

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from blrobust import atomic_write
from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.errors import UserError
from blrobust.models import Classifier, checkpoint
from blrobust.models.accuracy import accuracy
from blrobust.models.checkpoint import Facts
from blrobust.models.precision import PRECISIONS, reduce_precision

LOSS_SCALE = 1024.0  # for fp16: keeps small gradients above its smallest number; never overflowed here
WARM_UP_STEPS = 3  # before a graph is captured, as CUDA graphs ask


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters: SGD with Nesterov momentum, one cycle, random crop and flip."""

    epochs: int = 150
    batch_size: int = 128
    lr: float = 0.2  # at the peak
    warmup: float = 0.2  # share of the steps before the peak
    momentum: float = 0.9
    weight_decay: float = 5e-4  # on the weights of convolutions and linear layers only
    crop: int = 4  # zeros around the image before a random crop
    seed: int = 0
    holdout: int = 0  # so many training images, the last ones, are kept out
    stop_at: float | None = None  # stop after the epoch that comes within 0.01 of this held-out accuracy

    def lr_at(self, progress: float) -> float:
        """The learning rate at `progress` in [0, 1): linear up to the peak, half a cosine down to 0."""
        if progress < self.warmup:
            return self.lr * (0.05 + 0.95 * progress / self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


class Trainee:
    """A model in training: its optimizer, the state on disk, and its history."""

    def __init__(self, name: str, facts: Facts, folder: Path, recipe: Recipe, device: torch.device) -> None:
        self.name = name
        self.facts = replace(facts, seed=recipe.seed, recipe=asdict(recipe))
        self.path = folder / f"{name}.safetensors"
        self.state_path = folder / f"{name}.training.safetensors"
        self.history_path = folder / f"{name}.history.csv"
        self.history: list[dict[str, str]] = []
        torch.manual_seed(recipe.seed)
        self.model: Classifier = facts.build().to(device).to(memory_format=torch.channels_last)
        self.dtype = PRECISIONS[facts.precision]
        self.lr = torch.tensor(recipe.lr, device=device)
        self.loss = torch.zeros((), device=device)
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
        """Autocast for fp16 and bf16, nothing for fp32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.dtype, cache_enabled=False)

    def step(self, pixels: Tensor, labels: Tensor) -> None:
        """One step on pixels (batch, C, H, W) in [0, 1] and labels (batch,); nothing synchronises."""
        self.optimizer.zero_grad(set_to_none=True)
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
        """Everything that changes while training, by name: the tensors themselves, not copies."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        for index, parameter in enumerate(self.model.parameters()):
            tensors[f"momentum.{index}"] = self.optimizer.state[parameter]["momentum_buffer"]
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put a `state` back in place, so that a captured graph goes on from it."""
        for name, tensor in self.state().items():
            tensor.copy_(tensors[name])

    def save_state(self) -> None:
        """Write the history so far and the state; each in one step.

        The state comes last and counts the epochs: a kill between the two leaves a row too many.
        """
        _write_csv(self.history_path, self.history)
        epochs = torch.tensor(len(self.history))
        checkpoint.save(self.state_path, self.state() | {"epochs": epochs}, self.facts)

    def resume(self) -> int:
        """Take up the stored state; returns the number of epochs done. `UserError` if it is another's.

        Without one nothing is done yet: the training was stopped in its first epoch.
        """
        if not self.state_path.exists():
            return 0
        tensors, facts = checkpoint.load(self.state_path)
        if facts != self.facts:
            raise UserError(
                f"{self.state_path} was begun with {facts.recipe}, not {self.facts.recipe}; "
                "give the same options, or another --out"
            )
        self.restore(tensors)
        with self.history_path.open(newline="") as file:
            self.history = list(csv.DictReader(file))[: int(tensors["epochs"])]
        return len(self.history)

    def finish(self, test: Dataset, device: torch.device) -> Facts:
        """Round and write the finished checkpoint with its accuracy on `test`; returns its facts."""
        facts = self.facts
        if self.history[-1]["holdout_accuracy"]:
            facts = replace(facts, holdout_accuracy=float(self.history[-1]["holdout_accuracy"]))
        stored = checkpoint.stored_state(self.model)
        rounded = facts.build()
        rounded.load_state_dict({n: t.float() for n, t in stored.items()}, strict=False)
        model, _ = reduce_precision(rounded.eval(), facts.precision, device)
        with full_precision():
            facts = replace(facts, test_accuracy=accuracy(model, test, device))
        checkpoint.save(self.path, stored, facts)
        self.state_path.unlink(missing_ok=True)
        return facts


def train(
    trainees: Sequence[Trainee],
    training_set: Dataset,
    recipe: Recipe,
    device: torch.device,
    *,
    resume: bool = False,
    on_step: Callable[[int, int, Sequence[Trainee]], None] = lambda done, total, trainees: None,
) -> None:
    """Train side by side to the last epoch, or until all come within 0.01 of `recipe.stop_at`.

    The state is written after every epoch; with `resume`, training goes on from it. Raises
    `UserError` where the loss diverges or `recipe.stop_at` is never met. `on_step` hears
    the steps done and in total after each. Batches depend on the seed and the epoch alone.
    """
    kept = len(training_set) - recipe.holdout
    images, labels = training_set.images[:kept].to(device), training_set.labels[:kept].to(device)
    steps = kept // recipe.batch_size
    if steps < 1:
        raise UserError(f"batch size {recipe.batch_size} is larger than the {kept} training images")
    run_step = stepper(trainees, images[: recipe.batch_size], labels[: recipe.batch_size])
    start = min(trainee.resume() for trainee in trainees) if resume else 0
    for epoch in range(start, recipe.epochs):
        if epoch and _arrived([trainee.history[epoch - 1] for trainee in trainees], recipe.stop_at):
            return
        began = time.perf_counter()
        # A kill between two writes leaves some models an epoch ahead: they run along, then are put back.
        ahead = {
            trainee: {name: t.clone() for name, t in trainee.state().items()}
            for trainee in trainees
            if len(trainee.history) > epoch
        }
        rows, pixels = epoch_batches(images, recipe, epoch)
        for trainee in trainees:
            trainee.model.train()
            trainee.loss.zero_()
        for step in range(steps):
            lr = recipe.lr_at((epoch + step / steps) / recipe.epochs)
            for trainee in trainees:
                trainee.lr.fill_(lr)
            batch = slice(step * recipe.batch_size, (step + 1) * recipe.batch_size)
            run_step(pixels[batch], labels[rows[batch]])
            on_step(epoch * steps + step + 1, recipe.epochs * steps, trainees)
        for trainee in trainees:
            if trainee in ahead:
                trainee.restore(ahead[trainee])
                continue
            loss = float(trainee.loss) / steps
            if not math.isfinite(loss):
                raise UserError(f"training of {trainee.name} diverged in epoch {epoch + 1}; try a lower --lr")
            held_out = accuracy(trainee.model, training_set, device, start=kept) if recipe.holdout else None
            trainee.history.append(
                {
                    "epoch": str(epoch + 1),
                    "lr": f"{lr:.6g}",
                    "loss": f"{loss:.6f}",
                    "holdout_accuracy": "" if held_out is None else f"{held_out:.4f}",
                    "seconds": f"{time.perf_counter() - began:.2f}",
                }
            )
            trainee.save_state()
    if recipe.stop_at is not None and not _arrived([t.history[-1] for t in trainees], recipe.stop_at):
        raise UserError(
            f"no epoch of {recipe.epochs} came within 0.01 of --stop-at {recipe.stop_at}: "
            "the model was not stopped where it should have been; try another seed or a lower --lr"
        )


def epoch_batches(images: Tensor, recipe: Recipe, epoch: int) -> tuple[Tensor, Tensor]:
    """The order of one epoch and its images, (n, C, H, W), randomly cropped and flipped."""
    n, channels, height, width = images.shape
    generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    order = torch.randperm(n, generator=generator)
    top, left = torch.randint(0, 2 * recipe.crop + 1, (2, n, 1), generator=generator)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    rows = top + torch.arange(height)
    columns = left + torch.where(flip, torch.arange(width - 1, -1, -1), torch.arange(width))
    padded = F.pad(images, [recipe.crop] * 4)
    order, rows, columns = (t.to(images.device) for t in (order, rows, columns))
    depth = torch.arange(channels, device=images.device)
    cut = padded[
        order[:, None, None, None], depth[:, None, None], rows[:, None, :, None], columns[:, None, None]
    ]
    return order, cut


def stepper(trainees: Sequence[Trainee], images: Tensor, labels: Tensor) -> Callable[[Tensor, Tensor], None]:
    """A function of (images, labels) that steps all models; on CUDA one graph, a stream a model."""
    scale = 255 if images.dtype == torch.uint8 else 1
    if images.device.type != "cuda":

        def step(images: Tensor, labels: Tensor) -> None:
            pixels = (images.float() / scale).contiguous(memory_format=torch.channels_last)
            for trainee in trainees:
                trainee.step(pixels, labels)

        return step

    pixels = torch.empty(images.shape, device=images.device).contiguous(memory_format=torch.channels_last)
    pixels.copy_(images).div_(scale)
    targets = labels.clone()
    main = torch.cuda.current_stream()
    streams = [torch.cuda.Stream() for _ in trainees]  # type: ignore[no-untyped-call]
    for trainee, stream in zip(trainees, streams, strict=True):
        before = {name: t.clone() for name, t in trainee.state().items()}
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                trainee.step(pixels, targets)
        main.wait_stream(stream)
        trainee.restore(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        root = torch.cuda.current_stream()
        for trainee, stream in zip(trainees, streams, strict=True):
            stream.wait_stream(root)
            with torch.cuda.stream(stream):
                trainee.step(pixels, targets)
        for stream in streams:
            root.wait_stream(stream)

    def replay(images: Tensor, labels: Tensor) -> None:
        pixels.copy_(images).div_(scale)
        targets.copy_(labels)
        graph.replay()

    return replay


def _arrived(rows: list[dict[str, str]], stop_at: float | None) -> bool:
    """Whether every model's row of the history is within 0.01 of the held-out accuracy to stop at."""
    found = [float(row["holdout_accuracy"] or "nan") for row in rows]
    return stop_at is not None and all(abs(value - stop_at) <= 0.01 for value in found)


def _write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.write_text(path, text.getvalue())
