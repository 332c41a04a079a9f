"""Training: one loop for every model, with the data resident on the device.

Several models can be trained side by side. Models with the same seed get the same batches.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from blrobust.data.datasets import Dataset
from blrobust.data.labelled_images import check_range
from blrobust.errors import UserError
from blrobust.models.accuracy import accuracy
from blrobust.training.batches import epoch_batches, epoch_seed
from blrobust.training.processes import ALONE, Processes
from blrobust.training.recipes import check_alike
from blrobust.training.steps import by_batches, stepper
from blrobust.training.trainee import Trainee


def train(
    trainees: Sequence[Trainee],
    training_set: Dataset,
    device: torch.device,
    *,
    resume: bool = False,
    test: Dataset | None = None,
    processes: Processes = ALONE,
    on_step: Callable[[int, int, Sequence[Trainee]], None] = lambda done, total, trainees: None,
) -> None:
    """Train several models at the same time to the last epoch; see `recipes.check_alike` for their recipes.

    The state is written after every epoch; with `resume`, training continues from it. With `test`, the
    accuracy on these images is measured after every epoch, for the history only. Each of several `processes`
    takes its part of every batch, and the first one measures and writes. `on_step` is called after each step
    with the number of finished steps, the number of all steps, and the trainees. Batches depend only on the
    seed and the epoch. The noise depends also on the kind of device. Raises `UserError` if recipes do not fit
    together, a label has no class, a loss diverges, or another process ends.
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
    part = processes.part(recipe.batch_size)
    size = part.stop - part.start
    share = torch.arange(steps * recipe.batch_size).view(steps, -1)[:, part].flatten()
    groups = by_batches(trainees)
    for trainee in trainees:
        trainee.prepare_noise((recipe.batch_size, *images.shape[1:]), part)
    run_step = stepper(groups, (images[:size], labels[:size]), processes)
    if resume:
        _in_first(processes, trainees, lambda: [trainee.resume() for trainee in trainees])
    processes.copy_from_first([tensor for trainee in trainees for tensor in trainee.state().values()])
    for epoch in range(min(len(trainee.history) for trainee in trainees), recipe.epochs):
        began = time.perf_counter()
        # If the process was killed between two writes, some models are an epoch ahead: they are restored
        # after it.
        ahead = {
            trainee: {name: t.clone() for name, t in trainee.state().items()}
            for trainee in trainees
            if len(trainee.history) > epoch
        }
        epochs = [
            (pixels, labels[order])
            for order, pixels in (epoch_batches(images, group[0].recipe, epoch, share) for group in groups)
        ]
        # One generator per model, so that its noise does not depend on the other models.
        generators = {t: torch.Generator(device).manual_seed(epoch_seed(t.recipe, epoch)) for t in trainees}
        for trainee in trainees:
            trainee.begin_epoch()
        for step in range(steps):
            for trainee in trainees:
                trainee.set_lr(epoch, step / steps)
                trainee.draw_noise(generators[trainee])
            batch = slice(step * size, (step + 1) * size)
            run_step([(pixels[batch], targets[batch]) for pixels, targets in epochs])
            on_step(epoch * steps + step + 1, recipe.epochs * steps, trainees)
        for trainee, tensors in ahead.items():
            trainee.restore(tensors)
        trained = [trainee for trainee in trainees if trainee not in ahead]
        processes.average([total for trainee in trained for total in (trainee.loss, trainee.hits)])
        processes.copy_from_first([t for trainee in trained for t in trainee.statistics()])
        finish = partial(_finish_epoch, trained, steps, steps * size, began, training_set, test)
        _in_first(processes, trainees, finish)


def _in_first(processes: Processes, trainees: Sequence[Trainee], work: Callable[[], object]) -> None:
    """Do `work` in the first process only, and give all processes the histories of the models after it."""

    def histories() -> list[list[dict[str, str]]]:
        work()
        return [trainee.history for trainee in trainees]

    for trainee, history in zip(trainees, processes.from_first(histories), strict=True):
        trainee.history = history


def _finish_epoch(
    trainees: Sequence[Trainee],
    steps: int,
    images: int,
    began: float,
    training_set: Dataset,
    test: Dataset | None,
) -> None:
    """Measure the models after an epoch, and write their histories and states.

    `images` is the number of images in the `steps` of this process, `began` the time at the start.
    """
    for trainee in trainees:
        _add_row(trainee, steps, images, began, training_set, test)
        trainee.save_state()


def _add_row(
    trainee: Trainee, steps: int, images: int, began: float, training_set: Dataset, test: Dataset | None
) -> None:
    """Add the row of an epoch to the history of a model. Raises `UserError` if the loss is not finite."""
    loss, epoch, device = float(trainee.loss) / steps, len(trainee.history) + 1, trainee.loss.device
    if not math.isfinite(loss):
        raise UserError(f"training of {trainee.name} diverged in epoch {epoch}; try a lower learning rate")
    model, kept = trainee.stored_model(), len(training_set) - trainee.recipe.holdout
    held_out = accuracy(model, training_set, device, start=kept) if trainee.recipe.holdout else None
    tested = None if test is None else accuracy(model, test, device)
    trainee.history.append(
        {
            "epoch": str(epoch),
            "lr": f"{trainee.rate:.6g}",
            "loss": f"{loss:.6f}",
            "train_accuracy": f"{float(trainee.hits) / images:.4f}",
            "test_accuracy": "" if tested is None else f"{tested:.4f}",
            "holdout_accuracy": "" if held_out is None else f"{held_out:.4f}",
            "seconds": f"{time.perf_counter() - began:.2f}",
        }
    )
