"""Training: one loop for every model, with the data resident on the device.

Several models can be trained side by side on the same batches. Launching a network of this size takes longer
than computing it. So on a GPU one step of all models is one CUDA graph, with a stream for each model.
"""

import math
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from blrobust.data.datasets import Dataset
from blrobust.data.labelled_images import check_range
from blrobust.errors import UserError
from blrobust.models.accuracy import accuracy
from blrobust.training.recipes import Recipe, check_alike
from blrobust.training.trainee import Trainee

WARM_UP_STEPS = 3  # run before a CUDA graph is captured, as CUDA requires


def train(
    trainees: Sequence[Trainee],
    training_set: Dataset,
    device: torch.device,
    *,
    resume: bool = False,
    on_step: Callable[[int, int, Sequence[Trainee]], None] = lambda done, total, trainees: None,
) -> None:
    """Train several models at the same time to the last epoch; their recipes may differ only in noise.

    The state is written after every epoch; with `resume`, training continues from it. `on_step` is called
    after each step with the number of finished steps, the number of all steps, and the trainees. Batches
    depend only on the seed and the epoch. The noise depends also on the kind of device. Raises `UserError` if
    recipes differ in more than noise, a label has no class, or a loss diverges.
    """
    check_alike({trainee.name: trainee.recipe for trainee in trainees})
    recipe = trainees[0].recipe
    where = f"{training_set.name} ({training_set.split})"
    check_range(training_set.labels, where, min(trainee.facts.classes for trainee in trainees))
    kept = len(training_set) - recipe.holdout
    images, labels = training_set.images[:kept].to(device), training_set.labels[:kept].to(device)
    steps = kept // recipe.batch_size
    if steps < 1:
        raise UserError(
            f"batch_size: got {recipe.batch_size}; legal: 1 to {kept}, the number of training images"
        )
    run_step = stepper(trainees, images[: recipe.batch_size], labels[: recipe.batch_size])
    start = min(trainee.resume() for trainee in trainees) if resume else 0
    for epoch in range(start, recipe.epochs):
        began = time.perf_counter()
        # If the process was killed between two writes, some models are an epoch ahead: they are restored
        # after it.
        ahead = {
            trainee: {name: t.clone() for name, t in trainee.state().items()}
            for trainee in trainees
            if len(trainee.history) > epoch
        }
        rows, pixels = epoch_batches(images, recipe, epoch)
        # One generator per model, so that its noise does not depend on the other models.
        generators = [torch.Generator(device).manual_seed(_seed(recipe, epoch)) for _ in trainees]
        for trainee in trainees:
            trainee.model.train()
            trainee.loss.zero_()
        for step in range(steps):
            lr = recipe.lr_at((epoch + step / steps) / recipe.epochs)
            for trainee in trainees:
                trainee.lr.fill_(lr)
            batch = slice(step * recipe.batch_size, (step + 1) * recipe.batch_size)
            for trainee, generator in zip(trainees, generators, strict=True):
                trainee.draw_noise(pixels[batch], generator)
            run_step(pixels[batch], labels[rows[batch]])
            on_step(epoch * steps + step + 1, recipe.epochs * steps, trainees)
        for trainee in trainees:
            if trainee in ahead:
                trainee.restore(ahead[trainee])
                continue
            loss = float(trainee.loss) / steps
            if not math.isfinite(loss):
                raise UserError(
                    f"training of {trainee.name} diverged in epoch {epoch + 1}; try a lower learning rate"
                )
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


def epoch_batches(images: Tensor, recipe: Recipe, epoch: int) -> tuple[Tensor, Tensor]:
    """Return the order of the images in an epoch, int64 (n,), and the images in this order, (n, C, H, W).

    Each image is randomly cropped and flipped.
    """
    n, channels, height, width = images.shape
    generator = torch.Generator().manual_seed(_seed(recipe, epoch))
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


def _seed(recipe: Recipe, epoch: int) -> int:
    return recipe.seed * 100_003 + epoch


def stepper(trainees: Sequence[Trainee], images: Tensor, labels: Tensor) -> Callable[[Tensor, Tensor], None]:
    """Return a function that trains each model for one step on a batch of (images, labels).

    `images` and `labels` are an example batch; all later batches must have its shapes. On CUDA the step of
    all models is one graph, with a stream for each model.
    """
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
    for trainee in trainees:  # the graph reads the noise from where it is now
        trainee.draw_noise(pixels, torch.Generator(pixels.device))
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
