"""Printing of tables on stdout."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from blrobust.progress import Escaped

K = TypeVar("K")

WIDE = 200  # columns where stdout is no terminal


def print_table(table: Table, *, columns: int | None = None) -> None:
    """Print a table on stdout, escaped, at most `columns` characters wide (by default `width()`)."""
    Console(highlight=False, width=columns or width()).print(Escaped(table))


def print_narrow_table(table: Table) -> None:
    """Print a table as `print_table` does, but with the width of a terminal also in a file or a pipe."""
    print_table(table, columns=Console().width)


def width() -> int:
    """Return the number of columns of the terminal, or `WIDE` if stdout is a file or a pipe."""
    console = Console()
    return console.width if console.is_terminal else WIDE


def flag_column(table: Table, flags: Mapping[K, list[str]]) -> Callable[[K], list[Text]]:
    """Add a column "flags" (reasons to doubt results) to the table if there are any flags.

    Returns a function that returns the cells of this column, one or none, for a key of `flags`.
    """
    if not any(flags.values()):
        return lambda key: []
    table.add_column("flags")
    return lambda key: [Text(", ".join(flags[key]) or "-")]
