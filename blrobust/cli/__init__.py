"""The ``blrobust`` command: one module per subcommand, imported only when it is asked for."""

import importlib
import os
import sqlite3
import sys
from typing import Any

import click

from blrobust import __version__
from blrobust.errors import UserError

# command -> (module, one line for --help); the module defines a click command called ``command``.
COMMANDS = {
    "noise": ("blrobust.cli.noise", "Accuracy under Gaussian or uniform noise, level by level."),
    "attack": ("blrobust.cli.attack", "Accuracy under attack, strength by strength."),
    "attacks": ("blrobust.cli.attacks", "List the attacks."),
    "heatmap": ("blrobust.cli.heatmap", "Error under every single frequency, as a heat map."),
    "recover": ("blrobust.cli.recover", "Labels won back from adversarial inputs by a low-pass and its kin."),
    "report": ("blrobust.cli.report", "Render one run, or compare several, as one HTML file."),
    "runs": ("blrobust.cli.runs", "List the runs of a folder."),
    "models": ("blrobust.cli.models", "List the models and the grammar of their names."),
    "data": ("blrobust.cli.data", "List the data sets and fetch them."),
    "train": ("blrobust.cli.train", "Train a model and write its checkpoint."),
}

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class LazyGroup(click.Group):
    """A group that knows its commands' names and help lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the module of one command; ``None`` where there is no such command."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list from the table above, so that ``--help`` imports nothing heavy."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="blrobust", message="%(prog)s %(version)s")
def cli() -> None:
    """How much noise and attack does a network survive, and what does dropping frequencies or bits buy?

    Start with:  blrobust noise --sigma 0:2 --models fp32,fft50,fft85

    Exit codes: 0 done, 2 bad input or a place that cannot be read or written, 130 interrupted
    (the same noise, attack, heatmap or recover command goes on where it stopped).
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line; every error a user can cause is one line on stderr."""
    try:
        code: Any = cli.main(args=args, prog_name="blrobust", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        resumable = "noise, attack, heatmap or recover"
        click.echo(f"Interrupted. The same {resumable} command goes on where it stopped.", err=True)
        sys.exit(INTERRUPTED)
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        told = error.strerror or str(error)
        _fail(f"{error.filename}: {told}" if error.filename else told)
    except sqlite3.Error as error:
        _fail(f"the result store cannot be used: {error}")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    line = " ".join(message.split())
    # What came from the user may hold what a terminal would obey.
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    click.echo(f"Error: {line}", err=True)
    sys.exit(2)
