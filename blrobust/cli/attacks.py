"""``blrobust attacks``: the table of attacks."""

from fnmatch import fnmatchcase

import click

from blrobust.errors import UserError


@click.command("attacks")
@click.argument("patterns", nargs=-1)
@click.option("--parameters", is_flag=True, help="Show what --set can change, with the defaults.")
def command(patterns: tuple[str, ...], *, parameters: bool) -> None:
    """List the attacks: family, norm, strengths, queries, source. PATTERNS such as 'pgd*' select.

    All names, patterns and suites go with 'blrobust attack --kind'.
    """
    from rich.table import Table
    from rich.text import Text

    from blrobust import terminal
    from blrobust.attacks.selection import summary
    from blrobust.attacks.table import ATTACKS, SUITES

    rows = [
        summary(kind, entry)
        for kind, entry in ATTACKS.items()
        if not patterns or any(fnmatchcase(kind, pattern) for pattern in patterns)
    ]
    if not rows:
        raise UserError(f"no attack is called {', '.join(patterns)}; legal: {', '.join(ATTACKS)}")
    columns = ("name", "parameters") if parameters else tuple(rows[0])
    table = Table()
    for column in columns:
        if parameters or column != "parameters":
            table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns if parameters or name != "parameters"))
    terminal.print_table(table)
    if not patterns:
        for suite, members in SUITES.items():
            click.echo(f"suite:{suite}: {', '.join(members)}")
