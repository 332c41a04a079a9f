"""Printing of tables on stdout."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

K = TypeVar("K")

WIDE = 200  # columns where stdout is no terminal


def print_table(table: Table) -> None:
    """Print a table on stdout, at full width where stdout is a file or a pipe."""
    Console(highlight=False, width=width()).print(table)


def width() -> int:
    """Return the columns of the terminal, or `WIDE` where stdout is a file or a pipe."""
    console = Console()
    return console.width if console.is_terminal else WIDE


def flag_column(table: Table, flags: Mapping[K, list[str]]) -> Callable[[K], list[Text]]:
    """Add a column of flags if there are any; return a function from a key to its cells."""
    if not any(flags.values()):
        return lambda key: []
    table.add_column("flags")
    return lambda key: [Text(", ".join(flags[key]) or "-")]
