"""`blrobust train`: train models and write their checkpoints."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blrobust.cli import options, output
from blrobust.cli.config_file import config_options, dumped
from blrobust.cli.options import ARCH, DATA_DIR, DEVICE, POSITIVE, SEED, FiniteRange, UserPath
from blrobust.signals import INTERRUPTED, interruptible
from blrobust.terminal import echo

if TYPE_CHECKING:
    from blrobust.training.trainee import Trainee

MOST_EPOCHS = 100_000  # the history of each is kept


@click.command("train")
@config_options
@options.MODELS_ARGUMENT
@options.models(default=None)
@ARCH
@click.option("--dataset", default="cifar10", show_default=True, help="Data set with training images.")
@DATA_DIR
@click.option(
    "--epochs",
    type=click.IntRange(1, MOST_EPOCHS),
    help="Passes over the training images.  [default: 150; fp32-early: 5]",
)
@click.option("--batch-size", type=POSITIVE, help="Images per training step.  [default: 128]")
@click.option(
    "--lr",
    type=FiniteRange(min=0, min_open=True),
    help="Learning rate at the peak of the cycle.  [default: 0.2]",
)
@click.option(
    "--weight-decay",
    type=FiniteRange(min=0),
    help="Weight decay of convolutions and linear layers, not of biases or batch norm.  [default: 0.0005]",
)
@click.option(
    "--noise",
    type=FiniteRange(min=0),
    help="Add Gaussian noise to the training images: each image has its own sigma, drawn uniformly from 0 to "
    "this value, in normalised units.  [default: 0; "
    "fp32-noise: 1]",
)
@SEED
@click.option(
    "--holdout",
    type=click.IntRange(min=0),
    help="Number of training images, from the end, that are not trained on but measured after every epoch.  "
    "[default: 0]",
)
@DEVICE
@click.option(
    "--out",
    type=UserPath(),
    envvar="BLROBUST_WEIGHTS",
    show_envvar=True,
    help="Folder of the checkpoint.  [default: blrobust's folder for weights, in which all commands find it]",
)
@click.option("--resume", is_flag=True, help="Continue a training that was stopped.")
@options.DRY_RUN
@output.JSON
@output.QUIET
def command(
    listed: str | None,
    models: str | None,
    arch: str,
    dataset: str,
    data_dir: Path | None,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    weight_decay: float | None,
    noise: float | None,
    seed: int,
    holdout: int | None,
    device: str,
    out: Path | None,
    resume: bool,
    dry_run: bool,
) -> None:
    """Train MODEL, or several comma-separated models at the same time ('blrobust models' explains the names).

    The models are the argument or those of --models. The state is stored after every epoch; --resume
    continues a training that was stopped. If --out is not given, the other commands then load the new
    checkpoint instead of the bundled weights of MODEL.
    """
    given = options.one_list(listed, models)
    if dumped(models=given):
        return

    import torch

    from blrobust.data import datasets
    from blrobust.device import resolve
    from blrobust.errors import UserError, reason
    from blrobust.models import model_names, zoo
    from blrobust.progress import Steps, shown
    from blrobust.runs.held_file import HeldFile
    from blrobust.runs.lock import acquire
    from blrobust.training import recipes, training
    from blrobust.training.trainee import Trainee
    from blrobust.user_paths import output_folder

    names = model_names.parse_names(given)
    model_names.check_arch(arch)
    for name in names:  # before the data is asked for
        model_names.settings_of(name)
    asked = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "noise": noise,
        "holdout": holdout,
    }
    changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    if seed:
        for name in names:
            if model_names.split_seed(name)[1]:
                raise UserError(f"--seed: got {seed} for {name}; legal: a model without a seed in its name")
        changes["seed"] = seed
    chosen = {name: replace(recipes.recipe_of(name), **changes) for name in names}
    recipes.check_alike(chosen)
    chosen_device = resolve(device)
    training_set = datasets.load(dataset, split="train", data_dir=data_dir)
    test = datasets.load(dataset, data_dir=data_dir)
    if holdout is not None and holdout >= len(training_set):
        raise UserError(
            f"--holdout: got {holdout}; legal: numbers below {len(training_set)}, that of all training images"
        )
    folder = output_folder(out or zoo.own_weights_folder(), "out")
    torch.set_float32_matmul_precision("high")  # TF32 where the device has it, as for the bundled weights
    torch.backends.cudnn.benchmark = True
    trainees = []
    for name in names:
        network = model_names.facts_of(name, arch=arch, dataset=training_set)
        stem = model_names.file_stem(name, arch=arch, dataset=network.dataset)
        trainees.append(Trainee(stem, network, folder, chosen[name], chosen_device))
    if dry_run:
        _print_plan(trainees, images=len(training_set), device=str(chosen_device), resume=resume)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as contexts:
        for trainee in trainees:
            refusal = f"--out: got {folder}, where another process trains {trainee.path.name}"
            contexts.callback(acquire(trainee.lock_path, refusal).release)
            trainee.check = HeldFile(trainee.lock_path).check
        if not resume:
            _check_unused(trainees)
        finished = {trainee: trainee.finished() for trainee in trainees} if resume else {}
        todo = [trainee for trainee in trainees if finished.get(trainee) is None]
        contexts.enter_context(interruptible())
        try:
            if todo:
                with shown(not output.is_quiet()), Steps(width=30) as steps:
                    training.train(
                        todo, training_set, chosen_device, resume=resume,
                        on_step=lambda done, total, models: steps.update(done, total, _describe(models)),
                    )  # fmt: skip
            trained = []
            for name, trainee in zip(names, trainees, strict=True):
                done = finished.get(trainee) or trainee.finish(test, chosen_device)
                facts = {"name": name, "path": trainee.path, "accuracy": done.test_accuracy, "n": len(test)}
                trained.append(facts)
                if output.is_for_people():
                    echo(f"{trainee.path}: {done.test_accuracy:.2%} of {len(test):,} test images")
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{chosen_device} has too little free memory for {given}: {reason(error)}"
            ) from error
        except KeyboardInterrupt:
            click.echo(
                "Interrupted. The same command with --resume continues after the last complete epoch.",
                err=True,
            )
            sys.exit(INTERRUPTED)
    if output.is_json():
        output.print_json(trained)
    elif output.is_quiet():
        echo(str(folder))


def _check_unused(trainees: "Sequence[Trainee]") -> None:
    """Raise `UserError` if the state or the checkpoint of one of the models exists in the output folder."""
    from blrobust.errors import UserError
    from blrobust.training.trainee import occupied

    for trainee in trainees:
        if trainee.state_path.exists():
            raise UserError(
                f"--out: got a folder with a stopped training, {trainee.state_path}; legal: give --resume, "
                "or remove this file"
            )
    for trainee in trainees:
        if trainee.path.exists():
            raise occupied(trainee.path)


def _print_plan(trainees: "Sequence[Trainee]", *, images: int, device: str, resume: bool) -> None:
    """Print the size of each training, its device, its checkpoint, and the part that is stored.

    Raises `UserError` for files in the output folder with which the training could not begin or continue.
    """
    if not resume:
        _check_unused(trainees)
    plans = []
    for trainee in trainees:
        if trainee.path.exists():
            state = "finished; nothing would be trained"
        elif epochs := trainee.resume():
            state = f"resumes after epoch {epochs}"
        else:
            state = "a new training"
        plan = {"name": trainee.name, "path": trainee.path, "epochs": trainee.recipe.epochs}
        plans.append(plan | {"images": images, "device": device, "state": state})
    if output.is_json():
        output.print_json(plans)
        return
    for plan in plans:
        size = f"{plan['epochs']:,} epochs x {plan['images']:,} images"
        echo(f"{plan['name']}: {size} on {plan['device']} -> {plan['path']} ({plan['state']})")


def _describe(trainees: "Sequence[Trainee]") -> str:
    """Return the last finished epoch, with the loss of the first model in this epoch, as text."""
    last = trainees[0].history[-1] if trainees[0].history else None
    return f"epoch {last['epoch']}, loss {last['loss']}" if last else "epoch 0"
