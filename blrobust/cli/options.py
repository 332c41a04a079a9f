"""Options that several commands share, and loading of the models and images that they name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from blrobust.cli import output
from blrobust.errors import UserError
from blrobust.evaluation.arguments import MOST_SEED
from blrobust.perturbations import levels
from blrobust.runs.configuration import MOST_DRAWS
from blrobust.user_paths import expanded

if TYPE_CHECKING:
    from blrobust.results import Results

P = ParamSpec("P")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


LARGEST = (2 - 2**-23) * 2.0**127  # of float32


class FiniteRange(click.FloatRange):
    """A range of finite float32 numbers, because click's own range accepts NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; raise `click.BadParameter` if it is outside the range or not finite."""
        number: float = super().convert(value, param, ctx)
        if not abs(number) <= LARGEST:  # also true for NaN
            self.fail(f"got {value}; legal: a finite number of float32, up to 3.4e38", param, ctx)
        return number


class FractionRange(FiniteRange):
    """A range of numbers that may be written as fractions, such as 2/255."""

    name = "number or fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; raise `click.BadParameter` if it is not a number or fraction in the range."""
        try:
            number = levels.parse_number(str(value))
        except (ValueError, ZeroDivisionError):
            self.fail(f"got {value}; legal: a number such as 0.01 or 2/255", param, ctx)
        return super().convert(number, param, ctx)


class BatchSize(click.IntRange):
    """A positive whole number, or the word "auto", which becomes None."""

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Return the number, or None for "auto"; raise `click.BadParameter` for anything else."""
        if value == "auto":
            return None
        try:
            size: int = super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"got {value}; legal: a whole number from 1 on, or auto", param, ctx)
        return size


class UserPath(click.Path):
    """A path that a file system can have. `~` at its beginning means the home folder.

    Shells do not replace `~` in `--out=~/x`.
    """

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, with the home folder in place of `~`.

        Raises `click.BadParameter` for an illegal path and for the home folder of an unknown user.
        """
        try:
            path = expanded(value, "path")
        except UserError as error:
            self.fail(str(error).removeprefix("path: "), param, ctx)
        if os.fspath(value).startswith("~") and str(path).startswith("~"):
            self.fail(f"got {path}, in the home folder of an unknown user; legal: a path", param, ctx)
        super().convert(path, param, ctx)
        return path


POSITIVE = click.IntRange(min=1)

DRAWS = "Repetitions of the measurement with other random numbers. The accuracy is the mean over them."
LIMIT = click.option("--limit", type=POSITIVE, help="Use only the first N images.  [default: all]")
SEED = click.option(
    "--seed",
    type=click.IntRange(0, MOST_SEED),
    default=0,
    show_default=True,
    help="Seed of all random numbers.",
)
DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device to compute on: cpu, cuda, cuda:1 or mps; auto is the first of CUDA, MPS and CPU that "
    "exists.",
)
BATCH_SIZE = click.option(
    "--batch-size",
    type=BatchSize(min=1),
    default="auto",
    show_default=True,
    help="Maximum number of images per forward pass. blrobust never uses more than 100 on a CPU, or 5,000 on "
    "a GPU (fewer if its memory is small); auto uses that many. A smaller number needs less memory, and can "
    "change the last digits of stored probabilities. A larger one does not make the passes larger.",
)
ARCH = click.option(
    "--arch",
    default="resnet20",
    show_default=True,
    help="Architecture of blrobust's own models, such as fp32 and fft50: resnet20 (bundled weights) or "
    "resnet18 (train it first: blrobust train NAME --arch resnet18).",
)
DATASET = click.option(
    "--dataset",
    help="Data set: a name from 'blrobust data list', folder:PATH (one sub-folder of images per class) or "
    "npz:PATH (arrays x and y).  [default: cifar10 if it was downloaded, else its bundled sample]",
)
DATA_DIR = click.option(
    "--data-dir",
    type=UserPath(),
    envvar="BLROBUST_DATA",
    show_envvar=True,
    help="Folder of the data sets that 'blrobust data get' downloads.  [default: the user's cache folder]",
)
BASELINE = click.option(
    "--baseline",
    metavar="NAME",
    help="Model that the others are compared with in the table and the report; the measurement does not "
    "depend on it.  [default: fp32, else the first model]",
)
OUT = click.option(
    "--out",
    type=UserPath(),
    help="Folder for the results.  [default: a folder in runs, named by a hash of the configuration]",
)
DRY_RUN = click.option(
    "--dry-run",
    is_flag=True,
    help="Print the size of the work, the device, the folder and whether stored work would be resumed. "
    "Nothing is computed or written.",
)
OPEN = click.option("--open", "open_report", is_flag=True, help="Open the report in the browser.")


def models(default: str | None) -> Decorator:
    """Return the option `--models` with the list `default`."""
    return click.option(
        "--models",
        default=default,
        show_default=True,
        help="Models, comma-separated ('blrobust models' explains the names).",
    )


MODELS_ARGUMENT = click.argument("listed", metavar="[MODEL[,MODEL...]]", required=False)


def one_list(listed: str | None, models: str | None) -> str:
    """Return the list of models that the argument `listed` or the option `--models` has.

    The argument has priority over the models in a file given by `--config`. Raises `UserError` if both are on
    the command line, or if no models are given there or in the file.
    """
    source = click.get_current_context().get_parameter_source("models")
    if listed is not None and source is click.core.ParameterSource.COMMANDLINE:
        raise UserError(f"--models: got {models} beside the argument {listed}; legal: one of the two")
    given = models if listed is None else listed
    if given is None:
        raise UserError("--models: got none; legal: models, comma-separated ('blrobust models' lists them)")
    return given


def _draws(text: str) -> Decorator:
    """Return the option `--draws` with the help `text`."""
    return click.option(
        "--draws", type=click.IntRange(1, MOST_DRAWS), default=1, show_default=True, help=text
    )


def shared(default_models: str, *, draws: str = DRAWS) -> Decorator:
    """Return a decorator that adds the options that `noise` and `attack` share, in the order of `--help`.

    `draws` is the help of `--draws`.
    """
    options = [models(default_models), BASELINE, ARCH, DATASET, DATA_DIR, LIMIT, _draws(draws), SEED]
    options += [DEVICE, BATCH_SIZE, OUT, OPEN, DRY_RUN, output.JSON, output.QUIET]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def check_baseline(name: str | None, *, models: str) -> None:
    """Raise `UserError` if the baseline `name` is not in the comma-separated list `models`.

    The name without a seed of models that differ only in the seed is in the list too.
    """
    from blrobust.analysis.comparison import choose_baseline
    from blrobust.models.model_names import label_of, parse_names, split_seed

    names = parse_names(models)
    without_seed = [split_seed(model)[0] for model in names if "=" not in model]
    joined = [model for model in without_seed if without_seed.count(model) > 1]
    choose_baseline(name, list(dict.fromkeys([label_of(model) for model in names] + joined)))


def measured(
    measure: "Callable[P, Results]", *args: "P.args", **kwargs: "P.kwargs"
) -> tuple[Path, list[str]]:
    """Return the run folder that a function of the Python interface makes, and the errors of failed parts.

    With `--json` or `--quiet`, prints of a user's model go to stderr.
    Raises `FailedPartsError` if there are no results at all.
    """
    from blrobust.errors import FailedPartsError

    try:
        with output.own_stdout():
            return measure(*args, **kwargs).folder, []
    except FailedPartsError as error:
        if error.folder is None:
            raise
        return error.folder, error.lines
