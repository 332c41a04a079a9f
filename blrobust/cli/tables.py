"""Printing of tables on stdout."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from blrobust.progress import Escaped

K = TypeVar("K")

WIDE = 200  # columns of results where stdout is no terminal
UNLIMITED = 100_000  # columns: no cell of a plain table is wrapped


def print_table(table: Table, *, least: int = 0) -> None:
    """Print a table on stdout, escaped: as wide as the terminal, or plain in a file or a pipe.

    A terminal of fewer than `least` columns breaks the lines itself, but no cell is cut.
    A plain table has neither lines nor colours, and no text is wrapped.
    """
    console = Console(highlight=False)
    if console.is_terminal:
        console.width = max(console.width, least)
        console.print(Escaped(table))
        return
    table.box, table.pad_edge = None, False
    console.width = UNLIMITED
    with console.capture() as captured:
        console.print(Escaped(table))
    for line in captured.get().removesuffix("\n").split("\n"):
        print(line.rstrip())


def stacked(*lines: str) -> str:
    """Return the lines of a cell: below each other on a terminal, side by side in a file or a pipe.

    So every row of a plain table is one line.
    """
    return ("\n" if Console().is_terminal else " ").join(filter(None, lines))


def width() -> int:
    """Return the number of columns for results: those of the terminal, or `WIDE` in a file or a pipe."""
    console = Console()
    return console.width if console.is_terminal else WIDE


def room() -> int:
    """Return the number of columns for a table: those of the terminal, no limit in a file or a pipe."""
    console = Console()
    return console.width if console.is_terminal else UNLIMITED


def flag_column(table: Table, flags: Mapping[K, list[str]]) -> Callable[[K], list[Text]]:
    """Add a column "flags" (reasons to doubt results) to the table if there are any flags.

    Returns a function that returns the cells of this column, one or none, for a key of `flags`.
    """
    if not any(flags.values()):
        return lambda key: []
    table.add_column("flags")
    return lambda key: [Text(", ".join(flags[key]) or "-")]
