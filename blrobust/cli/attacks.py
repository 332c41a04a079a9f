"""`blrobust attacks`: the list of attacks."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from blrobust.cli import output
from blrobust.terminal import echo

if TYPE_CHECKING:
    from blrobust.attacks.catalogue.attack_spec import AttackSpec

Row = Mapping[str, str]

UNIT = "unit of the levels"
MEASURED = ("forward", "gradient")  # medians of the queries per image
COLUMNS = ("name", "norm", "levels", *MEASURED, "queries", UNIT, "source")
BY_USE = ("name", "levels", *MEASURED, "norm", "queries", UNIT, "source")  # which to show where not all fit
NAMED = 3  # attacks that the line of a unit names
INDENT, GAP = "  ", 2  # of a name below its family; columns between two cells


@click.command("attacks")
@click.argument("patterns", nargs=-1)
@click.option("--parameters", is_flag=True, help="Show the parameters that --set can change.")
@output.JSON
def command(patterns: tuple[str, ...], *, parameters: bool) -> None:
    """List the attacks by family, with norm, levels, cost, unit of the levels and publication.

    The column queries gives the number of iterations or of model calls (depending on the attack) per image
    and level with the default parameters. "One search" means that one search serves all levels, and
    "targeted" that the attack aims at one class ('blrobust attack --target'). The columns forward and
    gradient give the medians of the forward and backward passes per image and level, measured on fp32.

    PATTERNS choose the attacks to list. A pattern is a name, a name with wildcards such as 'pgd*', or a suite
    such as suite:quick. The attacks of a suite are listed with the levels of the suite.
    """
    from blrobust.attacks.catalogue import selection
    from blrobust.attacks.catalogue.suites import SUITES
    from blrobust.attacks.catalogue.table import ATTACKS

    chosen = selection.kinds(",".join(patterns) or "*", name="PATTERNS")
    if output.is_json():
        output.print_json([_facts(kind, ATTACKS[kind], levels) for kind, levels in chosen.items()])
        return
    rows = [selection.summary(kind, ATTACKS[kind], levels) for kind, levels in chosen.items()]
    columns = ("name", "parameters") if parameters else _fitting(rows)
    _print_by_family(rows, columns)
    if not parameters:
        if UNIT not in columns:
            _print_units(rows)
        if hidden := [column for column in COLUMNS if column not in (*columns, UNIT)]:
            echo(f"A wider terminal also shows {', '.join(hidden)}.")
    if not patterns:
        for suite, members in SUITES.items():
            for line in _wrapped(f"suite:{suite}: {', '.join(members)}"):
                echo(line)


def _fitting(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns that the terminal has room for, all of them in a file or a pipe."""
    from blrobust.cli.tables import room

    free, found = room(), []
    for column in BY_USE:
        needed = max(len(column), *(len(row[column]) for row in rows)) + GAP
        needed += len(INDENT) if column == "name" else 0
        if needed <= free + GAP or column == "name":
            found.append(column)
            free -= needed
    return tuple(column for column in COLUMNS if column in found)


def _print_by_family(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print the table, in which a line with the name of each family precedes its attacks."""
    from rich.console import JustifyMethod
    from rich.table import Table
    from rich.text import Text

    from blrobust.cli.tables import print_table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        justify: JustifyMethod = "right" if column in MEASURED else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column == "name")
    for family in dict.fromkeys(row["family"] for row in rows):
        table.add_row(Text(family, style="bold"))
        for row in rows:
            if row["family"] == family:
                table.add_row(*(Text(INDENT * (column == "name") + row[column]) for column in columns))
    print_table(table)


def _print_units(rows: Sequence[Row]) -> None:
    """Print a line for each unit of the levels, with its attacks, or with its norm if they are many."""
    echo("units of the levels:")
    for unit, norm in dict.fromkeys((row[UNIT], row["norm"]) for row in rows):
        names = [row["name"] for row in rows if row[UNIT] == unit]
        echo(f"{INDENT}{', '.join(names) if len(names) <= NAMED else f'attacks in {norm}'}: {unit}")


def _wrapped(line: str) -> list[str]:
    """Return the line, broken at spaces if the terminal is too narrow for it."""
    from blrobust.cli.tables import room

    return wrap(line, room(), subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)


def _facts(kind: str, spec: "AttackSpec", levels: Sequence[float]) -> dict[str, Any]:
    """Return the properties of an attack, its levels, its parameters and its suites, by key."""
    from blrobust.attacks.catalogue.measured_queries import measured_queries
    from blrobust.attacks.catalogue.suites import SUITES

    found = measured_queries().get(kind)
    return {
        "name": kind,
        "family": spec.family,
        "targeted": spec.targeted,
        "norm": spec.norm,
        "strength": spec.strength.axis,
        "levels": levels,
        "queries": spec.queries,
        "measured": None if found is None else found._asdict(),
        "parameters": spec.settable(),
        "suites": [suite for suite, members in SUITES.items() if kind in members],
        "source": spec.source,
    }
