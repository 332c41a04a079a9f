"""`blrobust models`: the list of models, the grammar of their names, and the check of their weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blrobust.cli import output
from blrobust.cli.options import DATA_DIR
from blrobust.terminal import echo

if TYPE_CHECKING:
    from blrobust.models.zoo import Entry


@click.command("models")
@click.option(
    "--verify",
    is_flag=True,
    help="Check the files of the models and, if their data set was downloaded (blrobust data get cifar10), "
    "their accuracy on its test images.",
)
@DATA_DIR
@output.JSON
def command(verify: bool, data_dir: Path | None) -> None:
    """List the models that have weights (bundled or trained), and the rules for model names."""
    from rich.table import Table
    from rich.text import Text

    from blrobust.cli.tables import print_table
    from blrobust.models import model_names, zoo

    if verify:
        _verify(data_dir)
        return
    table = Table(title="Models with weights", title_justify="left")
    for heading in ("name", "network", "nominal", "effective", "accuracy", "from"):
        right = heading in ("nominal", "effective", "accuracy")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading == "name")
    entries = zoo.entries(on_broken=lambda error: echo(f"left out: {error}", err=True))
    if output.is_json():
        output.print_json([_facts(entry) for entry in entries])
        return
    for entry in entries:
        facts = entry.facts
        table.add_row(
            Text(entry.name),
            Text(f"{facts.arch}, {facts.dataset}"),
            f"{facts.compression:.2f}" if facts.compression else "-",
            f"{entry.effective:.3f}" if facts.compression else "-",
            "-" if facts.test_accuracy is None else f"{facts.test_accuracy:.2%}",
            "package" if entry.bundled else Text(str(entry.path.parent)),
        )
    print_table(table)
    names = Table(title="Names", title_justify="left", show_header=False, box=None)
    for name, meaning in model_names.GRAMMAR.items():
        names.add_row(Text(name, style="bold"), Text(meaning))
    print_table(names)
    _print_remote()
    echo("A name without weights is made with: blrobust train NAME")


def _print_remote() -> None:
    """Print the checkpoints at the address in $BLROBUST_WEIGHTS that have not been fetched, if there are any.

    A list that cannot be fetched has been reported with the checkpoints that are left out.
    """
    from blrobust.errors import UserError
    from blrobust.models import remote_weights

    try:
        others = remote_weights.listed().keys() - remote_weights.fetched().keys()
    except UserError:
        return
    if others:
        place = remote_weights.address()
        echo(f"At {place}, fetched when a model name needs them: {', '.join(sorted(others))}")


def _facts(entry: "Entry") -> dict[str, Any]:
    """Return the name, network, data set, compressions, accuracy and file of a model, by key."""
    facts = entry.facts
    return {
        "name": entry.name,
        "arch": facts.arch,
        "dataset": facts.dataset,
        "nominal_compression": facts.compression,
        "effective_compression": entry.effective if facts.compression else 0.0,
        "accuracy": facts.test_accuracy,
        "bundled": entry.bundled,
        "path": str(entry.path),
    }


def _verify(data_dir: Path | None) -> None:
    """Print the result of the checks of each checkpoint, a line each; exit with code 2 if a check fails."""
    from blrobust.errors import UserError
    from blrobust.models import zoo

    broken: list[UserError] = []
    entries = zoo.entries(on_broken=broken.append)
    results: list[dict[str, Any]] = [
        {"name": None, "path": None, "problems": [str(error)], "passed": []} for error in broken
    ]
    if output.is_for_people():
        for error in broken:
            echo(f"FAILED {error}")
    for entry in entries:
        problems, done = zoo.verify(entry, data_dir=data_dir)
        results.append({"name": entry.name, "path": str(entry.path), "problems": problems, "passed": done})
        if output.is_for_people():
            echo(f"{'FAILED' if problems else 'ok':<7}{entry.path.stem}: {'; '.join(problems or done)}")
    if output.is_json():
        output.print_json(results)
    if failed := sum(bool(result["problems"]) for result in results):
        raise click.ClickException(f"{failed} of the checkpoints are not what they say")
