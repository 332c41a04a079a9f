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
from blrobust.cli.options import ARCH, DATA_DIR, DEVICE, POSITIVE, SEED, UserPath
from blrobust.cli.recipe_options import recipe_options
from blrobust.cli.training_plan import check_unused, print_plan
from blrobust.signals import INTERRUPTED, interruptible
from blrobust.terminal import echo
from blrobust.user_paths import is_address

if TYPE_CHECKING:
    from blrobust.training.trainee import Trainee


class WeightsFolder(click.Option):
    """An option for a folder of weights, whose environment variable may be an address to read them from."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the value of the environment variable; None if it is an address."""
        value = super().resolve_envvar_value(ctx)
        return None if value and is_address(value) else value


SEEDS = click.option(
    "--seeds",
    type=POSITIVE,
    help="Train each model with N seeds, from --seed on, at the same time. The model NAME is called "
    "NAME-seed1, NAME-seed2, ... with the seeds 1, 2, ...; NAME itself has seed 0.  [default: only --seed, "
    "without a change of the name]",
)
CURVES = click.option(
    "--curves",
    is_flag=True,
    help="Measure the accuracy on the test images after every epoch, for the history of the training "
    "(NAME.history.csv). Costs time; nothing is chosen by it.",
)


@click.command("train")
@config_options
@options.MODELS_ARGUMENT
@options.models(default=None)
@ARCH
@click.option("--dataset", default="cifar10", show_default=True, help="Data set with training images.")
@DATA_DIR
@recipe_options
@SEED
@SEEDS
@CURVES
@DEVICE
@click.option(
    "--out",
    cls=WeightsFolder,
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
    recipe: str | None,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    weight_decay: float | None,
    label_smoothing: float | None,
    ema: float | None,
    cutout: int | None,
    noise: float | None,
    holdout: int | None,
    seed: int,
    seeds: int | None,
    curves: bool,
    device: str,
    out: Path | None,
    resume: bool,
    dry_run: bool,
) -> None:
    """Train MODEL, or several comma-separated models at the same time ('blrobust models' explains the names).

    Name the models as the argument or with --models. Other options change single values of --recipe. The
    state is stored after every epoch; --resume continues a training that was stopped. If --out is not given,
    the other commands then load the new checkpoint instead of the bundled weights of MODEL.

    Several GPUs: torchrun --nproc-per-node N -m blrobust train ... trains with N processes, each with its
    part of every batch.
    """
    given = options.one_list(listed, models)
    if dumped(models=given):
        return

    import torch

    from blrobust import deadline
    from blrobust.data import datasets
    from blrobust.errors import UserError, reason
    from blrobust.models import model_names, zoo
    from blrobust.models.checkpoint import Facts
    from blrobust.progress import Steps, shown
    from blrobust.runs.held_file import HeldFile
    from blrobust.runs.lock import acquire
    from blrobust.training import recipes, training
    from blrobust.training.processes import joined
    from blrobust.training.trainee import Trainee
    from blrobust.user_paths import output_folder

    names = _with_seeds(model_names.parse_names(given), seed, seeds)
    model_names.check_arch(arch)
    for name in names:  # before the data is asked for
        model_names.settings_of(name)
    asked = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "label_smoothing": label_smoothing,
        "ema": ema,
        "cutout": cutout,
        "noise": noise,
        "holdout": holdout,
        "seed": None if seeds else seed or None,
    }
    changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    recipe = recipe or recipes.OF_ARCHITECTURES.get(arch, "default")
    chosen = {name: replace(recipes.recipe_of(name, recipe), **changes) for name in names}
    recipes.check_alike(chosen)
    with ExitStack() as contexts:
        processes, own_device = contexts.enter_context(joined(device))
        training_set = datasets.load(dataset, split="train", data_dir=data_dir)
        test = datasets.load(dataset, data_dir=data_dir)
        if holdout is not None and holdout >= len(training_set):
            raise UserError(
                f"--holdout: got {holdout}; legal: numbers below {len(training_set)}, that of all training "
                "images"
            )
        folder = output_folder(out or zoo.own_weights_folder(), "out")
        torch.set_float32_matmul_precision("high")  # TF32 where the device has it
        torch.backends.cudnn.benchmark = True
        trainees = []
        for name in names:
            network = model_names.facts_of(name, arch=arch, dataset=training_set)
            stem = model_names.file_stem(name, arch=arch, dataset=network.dataset)
            trainees.append(Trainee(stem, network, folder, chosen[name], own_device))
        if dry_run:
            if processes.is_first:
                print_plan(trainees, images=len(training_set), device=str(own_device), resume=resume)
            return
        finished: dict[Trainee, Facts | None] = {}

        def begin() -> list[int]:
            folder.mkdir(parents=True, exist_ok=True)
            for trainee in trainees:
                refusal = f"--out: got {folder}, where another process trains {trainee.path.name}"
                contexts.callback(acquire(trainee.lock_path, refusal).release)
                trainee.check = HeldFile(trainee.lock_path).check
            if resume:
                finished.update({trainee: trainee.finished() for trainee in trainees})
            else:
                check_unused(trainees)
            return [i for i, trainee in enumerate(trainees) if finished.get(trainee) is None]

        todo = [trainees[i] for i in processes.from_first(begin)]
        contexts.enter_context(interruptible())
        try:
            if todo:
                with shown(processes.is_first and not output.is_quiet()), Steps(width=30) as steps:

                    def on_step(done: int, total: int, models: "Sequence[Trainee]") -> None:
                        steps.update(done, total, _describe(models))
                        deadline.check()

                    training.train(
                        todo, training_set, own_device, resume=resume, test=test if curves else None,
                        processes=processes, on_step=on_step,
                    )  # fmt: skip
            if not processes.is_first:
                return
            trained = []
            for name, trainee in zip(names, trainees, strict=True):
                done = finished.get(trainee) or trainee.finish(test, own_device)
                facts = {"name": name, "path": trainee.path, "accuracy": done.test_accuracy, "n": len(test)}
                trained.append(facts)
                if output.is_for_people():
                    echo(f"{trainee.path}: {done.test_accuracy:.2%} of {len(test):,} test images")
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{own_device} has too little free memory for {given}: {reason(error)}"
            ) from error
        except KeyboardInterrupt:
            if processes.is_first:
                click.echo(
                    "Interrupted. The same command with --resume continues after the last complete epoch.",
                    err=True,
                )
            sys.exit(INTERRUPTED)
    if output.is_json():
        output.print_json(trained)
    elif output.is_quiet():
        echo(str(folder))


def _with_seeds(names: list[str], seed: int, seeds: int | None) -> list[str]:
    """Return the names of all models to train: each of `names` with `seeds` seeds from `seed` on.

    Raises `UserError` for a name that has a seed already if `seed` or `seeds` is given too.
    """
    from blrobust.errors import UserError
    from blrobust.models.model_names import join_names, parse_names, split_seed, with_seed

    for name in names:
        if split_seed(name)[1] and (seed or seeds):
            option = f"--seeds: got {seeds}" if seeds else f"--seed: got {seed}"
            raise UserError(f"{option} for {name}; legal: a model without a seed in its name")
    if seeds is None:
        return names
    every = range(seed, seed + seeds)
    return parse_names(join_names(with_seed(name, each) for name in names for each in every))


def _describe(trainees: "Sequence[Trainee]") -> str:
    """Return the last finished epoch, with the loss of the first model in this epoch, as text."""
    last = trainees[0].history[-1] if trainees[0].history else None
    return f"epoch {last['epoch']}, loss {last['loss']}" if last else "epoch 0"
