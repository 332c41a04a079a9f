"""`blrobust attacks`: the list of attacks."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from blrobust.cli import output
from blrobust.errors import UserError
from blrobust.terminal import echo

if TYPE_CHECKING:
    from blrobust.attacks.catalogue.attack_spec import AttackSpec

WHOLE_TABLE = 100  # columns of a terminal that the whole table needs
NARROW = ["name", "norm", "default grid", "queries"]


@click.command("attacks")
@click.argument("patterns", nargs=-1)
@click.option("--parameters", is_flag=True, help="Show the parameters that --set can change.")
@output.JSON
def command(patterns: tuple[str, ...], *, parameters: bool) -> None:
    """List the attacks with family, norm, strengths, queries and publication.

    PATTERNS such as 'pgd*' select some of them. Names, patterns and suites are values of
    'blrobust attack --kind'.
    """
    from rich.table import Table
    from rich.text import Text

    from blrobust.attacks.catalogue.selection import summary
    from blrobust.attacks.catalogue.suites import SUITES
    from blrobust.attacks.catalogue.table import ATTACKS
    from blrobust.cli import tables

    chosen = {
        kind: spec
        for kind, spec in ATTACKS.items()
        if not patterns or any(fnmatchcase(kind, pattern) for pattern in patterns)
    }
    if not chosen:
        raise UserError(f"PATTERNS: got {', '.join(patterns)}; legal: {', '.join(ATTACKS)}")
    if output.is_json():
        output.print_json([_facts(kind, spec) for kind, spec in chosen.items()])
        return
    rows = [summary(kind, spec) for kind, spec in chosen.items()]
    everything = [name for name in rows[0] if name != "parameters"]
    narrow = tables.width() < WHOLE_TABLE
    columns = ["name", "parameters"] if parameters else NARROW if narrow else everything
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns))
    tables.print_table(table)
    if narrow and not parameters:
        others = ", ".join(name for name in everything if name not in NARROW)
        echo(f"A terminal of {WHOLE_TABLE} columns also shows {others}.")
    if not patterns:
        for suite, members in SUITES.items():
            echo(f"suite:{suite}: {', '.join(members)}")


def _facts(kind: str, spec: "AttackSpec") -> dict[str, Any]:
    """Return the properties of an attack, its default levels, its parameters and its suites, by key."""
    from blrobust.attacks.catalogue.suites import SUITES
    from blrobust.perturbations import levels

    return {
        "name": kind,
        "family": spec.family,
        "targeted": spec.targeted,
        "norm": spec.norm,
        "strength": spec.strength.axis,
        "levels": levels.parse(spec.grid),
        "queries": spec.queries,
        "parameters": spec.settable(),
        "suites": [suite for suite, members in SUITES.items() if kind in members],
        "source": spec.source,
    }
