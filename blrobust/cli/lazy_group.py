"""A group of commands, each of which is imported only when it is needed."""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import click

SIMILAR = 0.7  # of 1, the similarity of a command to a wrong name for which it is suggested


class LazyGroup(click.Group):
    """A click group that lists its commands without importing their modules.

    `table` maps each command to its module, which defines a click command called `command`, and to one line
    for `--help`.
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which a new user needs them."""
        return list(self._table)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name of the command, the command, and the other arguments.

        Raises `click.UsageError` with the most similar names if there is no such command.
        """
        if args[0] not in self._table and not args[0].startswith("-"):
            near = get_close_matches(args[0], self._table, cutoff=SIMILAR)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"{ctx.command_path} --help lists the commands"
            )
            raise click.UsageError(f"no such command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command called `name`, after importing its module; None if there is no such command."""
        if name not in self._table:
            return None
        command: click.Command = importlib.import_module(self._table[name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, so that `--help` imports no large module."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._table.items()])
