"""``blrobust train``: make the weights that a model name stands for."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.cli import INTERRUPTED
from blrobust.cli.options import ARCH, DATA_DIR, DEVICE, POSITIVE, SEED, FiniteRange

if TYPE_CHECKING:
    from blrobust.training.training import Trainee

# Held-out accuracy of `blrobust train fft85 --holdout 5000`: where fp32-early is stopped.
EARLY_HOLDOUT, EARLY_STOP_AT = 5000, 0.8452


@click.command("train")
@click.argument("model")
@ARCH
@click.option("--dataset", default="cifar10", show_default=True, help="Data set with training images.")
@DATA_DIR
@click.option("--epochs", type=POSITIVE, default=150, show_default=True, help="Passes over the images.")
@click.option("--batch-size", type=POSITIVE, default=128, show_default=True, help="Images a step.")
@click.option(
    "--lr",
    type=FiniteRange(min=0, min_open=True),
    default=0.2,
    show_default=True,
    help="Learning rate at the peak of the cycle.",
)
@click.option(
    "--weight-decay",
    type=FiniteRange(min=0),
    default=5e-4,
    show_default=True,
    help="On weights, not on biases.",
)
@SEED
@click.option(
    "--holdout",
    type=click.IntRange(min=0),
    help="Training images to keep out and measure on after every epoch.  [default: 0; fp32-early: 5000]",
)
@click.option(
    "--stop-at",
    type=FiniteRange(0, 1),
    help="Stop within 0.01 of this held-out accuracy.  [default: never; fp32-early: 0.8452, that of fft85]",
)
@DEVICE
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    envvar="BLROBUST_WEIGHTS",
    show_envvar=True,
    help="Folder of the checkpoint.  [default: the user's data folder, where model names are looked up]",
)
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
def command(
    model: str,
    arch: str,
    dataset: str,
    data_dir: Path | None,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    seed: int,
    holdout: int | None,
    stop_at: float | None,
    device: str,
    out: Path | None,
    resume: bool,
) -> None:
    """Train MODEL ('blrobust models' explains the names), or several with commas between them side by side.

    The state is stored after every epoch, so a training that was stopped goes on with --resume. A
    name in the folder where names are looked up comes before the bundled weights of that name.
    """
    import torch

    from blrobust.data import datasets
    from blrobust.device import resolve
    from blrobust.errors import UserError, reason
    from blrobust.models import model_names, zoo
    from blrobust.training import training

    names = model_names.parse_names(model)
    model_names.check_arch(arch)
    for name in names:  # before the data is asked for
        model_names.settings_of(name)
    if "fp32-early" in names:
        published = arch == "resnet20" and dataset == "cifar10"
        if names != ["fp32-early"]:
            raise UserError(f"fp32-early stops early: train it alone, not with {model!r}")
        if stop_at is None and not published:
            raise UserError(f"fp32-early of {arch} on {dataset} needs --stop-at, the accuracy to stop at")
        stop_at = EARLY_STOP_AT if stop_at is None else stop_at
        holdout = EARLY_HOLDOUT if holdout is None else holdout
    if stop_at is not None and not holdout:
        raise UserError(f"--stop-at {stop_at} needs --holdout, the number of images to measure it on")
    place = resolve(device)
    training_set = datasets.load(dataset, split="train", data_dir=data_dir)
    test = datasets.load(dataset, data_dir=data_dir)
    if holdout is not None and holdout >= len(training_set):
        raise UserError(f"--holdout {holdout} leaves none of the {len(training_set)} training images")
    recipe = training.Recipe(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        seed=seed,
        holdout=holdout or 0,
        stop_at=stop_at,
    )
    folder = out or zoo.own_weights_folder()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")  # TF32 where the device has it, as for the bundled weights
    torch.backends.cudnn.benchmark = True
    trainees = []
    for name in names:
        facts = model_names.facts_of(name, arch=arch, dataset=training_set)
        stem = model_names.file_stem(name, arch=arch, dataset=facts.dataset)
        trainees.append(training.Trainee(stem, facts, folder, recipe, place))
    for trainee in trainees:
        if trainee.path.exists():
            raise UserError(f"{trainee.path} exists: remove it, or give another folder with --out")
        if trainee.state_path.exists() and not resume:
            raise UserError(
                f"{trainee.state_path} is a training that was stopped: give --resume, or remove it"
            )
    try:
        with _Bar() as bar:
            training.train(trainees, training_set, recipe, place, resume=resume, on_step=bar)
    except torch.OutOfMemoryError as error:
        raise UserError(f"{place} has too little free memory for {model}: {reason(error)}") from error
    except KeyboardInterrupt:
        click.echo(
            "Interrupted. The same command with --resume goes on after the last whole epoch.", err=True
        )
        sys.exit(INTERRUPTED)
    for trainee in trainees:
        done = trainee.finish(test, place)
        click.echo(f"{trainee.path}: {done.test_accuracy:.2%} of {len(test):,} test images")


class _Bar:
    """Progress with the time left, on stderr; a line a tenth of the way where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._live = console.is_terminal
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("gone, to go"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not self._live)
        self._task = self._progress.add_task("training", total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int, trainees: "Sequence[Trainee]") -> None:
        last = trainees[0].history[-1] if trainees[0].history else None
        text = f"epoch {last['epoch']}, loss {last['loss']}" if last else "epoch 0"
        self._progress.update(self._task, completed=done, total=total, description=text)
        if not self._live and done * 10 // total != (done - 1) * 10 // total:
            click.echo(f"{done * 10 // total * 10} %: {text}", err=True)
