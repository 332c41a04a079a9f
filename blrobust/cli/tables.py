"""Printing of tables on stdout."""

from rich.console import Console
from rich.table import Table

WIDE = 200  # columns where stdout is no terminal


def print_table(table: Table) -> None:
    """Print a table on stdout, at full width where stdout is a file or a pipe."""
    Console(highlight=False, width=width()).print(table)


def width() -> int:
    """Return the columns of the terminal, or `WIDE` where stdout is a file or a pipe."""
    console = Console()
    return console.width if console.is_terminal else WIDE
