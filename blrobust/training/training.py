"""Training: one loop for every model, with the data resident on the device.

Several models can be trained side by side. Models with the same seed get the same batches.
"""

import math
import time
from collections.abc import Callable, Sequence

import torch

from blrobust.data.datasets import Dataset
from blrobust.data.labelled_images import check_range
from blrobust.errors import UserError
from blrobust.models.accuracy import accuracy
from blrobust.training.batches import epoch_batches, epoch_seed
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
    on_step: Callable[[int, int, Sequence[Trainee]], None] = lambda done, total, trainees: None,
) -> None:
    """Train several models at the same time to the last epoch; see `recipes.check_alike` for their recipes.

    The state is written after every epoch; with `resume`, training continues from it. With `test`, the
    accuracy on these images is measured after every epoch, for the history only. `on_step` is called after
    each step with the number of finished steps, the number of all steps, and the trainees. Batches depend
    only on the seed and the epoch. The noise depends also on the kind of device. Raises `UserError` if
    recipes do not fit together, a label has no class, or a loss diverges.
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
    groups = by_batches(trainees)
    run_step = stepper(groups, (images[: recipe.batch_size], labels[: recipe.batch_size]))
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
        epochs = [
            (pixels, labels[order])
            for order, pixels in (epoch_batches(images, group[0].recipe, epoch) for group in groups)
        ]
        # One generator per model, so that its noise does not depend on the other models.
        generators = {t: torch.Generator(device).manual_seed(epoch_seed(t.recipe, epoch)) for t in trainees}
        for trainee in trainees:
            trainee.begin_epoch()
        for step in range(steps):
            first = step * recipe.batch_size
            batches = [
                (pixels[first : first + recipe.batch_size], targets[first : first + recipe.batch_size])
                for pixels, targets in epochs
            ]
            for group, (pixels, _) in zip(groups, batches, strict=True):
                for trainee in group:
                    trainee.set_lr(epoch, step / steps)
                    trainee.draw_noise(pixels, generators[trainee])
            run_step(batches)
            on_step(epoch * steps + step + 1, recipe.epochs * steps, trainees)
        for trainee in trainees:
            if trainee in ahead:
                trainee.restore(ahead[trainee])
                continue
            loss, hits = trainee.totals()
            if not math.isfinite(loss):
                raise UserError(
                    f"training of {trainee.name} diverged in epoch {epoch + 1}; try a lower learning rate"
                )
            model = trainee.stored_model()
            held_out = accuracy(model, training_set, device, start=kept) if recipe.holdout else None
            tested = None if test is None else accuracy(model, test, device)
            trainee.history.append(
                {
                    "epoch": str(epoch + 1),
                    "lr": f"{trainee.rate:.6g}",
                    "loss": f"{loss / steps:.6f}",
                    "train_accuracy": f"{hits / (steps * recipe.batch_size):.4f}",
                    "test_accuracy": "" if tested is None else f"{tested:.4f}",
                    "holdout_accuracy": "" if held_out is None else f"{held_out:.4f}",
                    "seconds": f"{time.perf_counter() - began:.2f}",
                }
            )
            trainee.save_state()
