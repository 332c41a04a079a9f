"""The `blrobust` command, with one module per subcommand, which is imported only for that subcommand."""

import sqlite3
import sys
from typing import Any

import click

from blrobust import __version__
from blrobust.cli.lazy_group import LazyGroup
from blrobust.cli.option_names import with_option
from blrobust.errors import FailedPartsError, UserError, describe, failed_import, reason, shorten
from blrobust.escaping import one_line
from blrobust.runs.interruption import Interrupted
from blrobust.signals import INTERRUPTED
from blrobust.terminal import echo
from blrobust.user_output import warnings_counted

MOST_TEXT = 5000  # characters of an error; arguments and files may have any number

# command -> (module, one line for --help); the module defines a click command called `command`.
COMMANDS = {
    "noise": ("blrobust.cli.noise", "Measure accuracy under Gaussian or uniform noise, level by level."),
    "attack": ("blrobust.cli.attack", "Measure accuracy under adversarial attacks, strength by strength."),
    "attacks": ("blrobust.cli.attacks", "List the attacks."),
    "heatmap": (
        "blrobust.cli.heatmap",
        "Map the error of models when a single frequency is added to images.",
    ),
    "recover": (
        "blrobust.cli.recover",
        "Count adversarial inputs that a filter, fewer bits or another model classifies correctly.",
    ),
    "paper": ("blrobust.cli.paper", "Repeat the experiments of the paper on band-limited networks."),
    "report": ("blrobust.cli.report", "Write the report of one run, or a comparison of several, as HTML."),
    "compare": ("blrobust.cli.compare", "Compare the models of two runs on the same images, level by level."),
    "export": ("blrobust.cli.export", "Write the results of a run as Parquet, CSV, Markdown or LaTeX."),
    "runs": ("blrobust.cli.runs", "List the runs in a folder."),
    "models": ("blrobust.cli.models", "List the models and explain their names."),
    "data": ("blrobust.cli.data", "List the data sets and download them."),
    "train": ("blrobust.cli.train", "Train a model and write its checkpoint."),
}


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="blrobust", message="%(prog)s %(version)s")
def cli() -> None:
    """Measure how robust image classifiers are to noise and adversarial attacks.

    The models are ordinary networks, networks whose convolutions ignore high frequencies (band-limited),
    networks in 16-bit precision, and your own.

    Start with:  blrobust noise

    After Ctrl-C, run the same command again: noise, attack, heatmap, recover and paper continue
    where they stopped; train continues with --resume.

    Exit codes: 0: success; 2: bad input, or a failed file operation, model or report; 130: Ctrl-C; 143:
    SIGTERM; 129: SIGHUP. If only the report fails, results.csv is still complete. If stdout or stderr is
    closed, or redirected to a full disk, the output is lost, but the exit code stays the same.
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line; print every error that a user can cause as one line on stderr."""
    try:
        with warnings_counted():
            code: Any = cli.main(args=args, prog_name="blrobust", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt) as error:
        # click raises Abort from the KeyboardInterrupt.
        cause = error.__cause__ or error
        details = f" {one_line(str(cause))}" if isinstance(cause, Interrupted) else ""
        echo(f"Interrupted.{details}", err=True)
        sys.exit(INTERRUPTED)
    except FailedPartsError as error:
        _fail(*error.lines)
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        message = error.strerror or str(error)
        _fail(f"{error.filename}: {message}" if error.filename else message)
    except sqlite3.Error as error:
        _fail(f"the run database cannot be used: {error}")
    except Exception as error:
        problem = _problem(error)
        if problem is None:
            raise
        _fail(problem)
    sys.exit(code if isinstance(code, int) else 0)


def _problem(error: Exception) -> str | None:
    """Return the message for an error of a broken package or of full memory; None for any other error."""
    if package := failed_import(error):
        return f"the package {package} cannot be imported: {describe(error)}"
    if isinstance(error, MemoryError | RuntimeError):
        from blrobust.perturbations.base import is_out_of_memory  # imports torch, as who raised this did

        if is_out_of_memory(error):
            return f"memory is full; use fewer or smaller images or a smaller --batch-size: {reason(error)}"
    return None


def _fail(*messages: str) -> None:
    for message in messages:
        echo(f"Error: {shorten(one_line(with_option(message)), MOST_TEXT)}", err=True)
    sys.exit(2)
