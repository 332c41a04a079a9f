"""`blrobust data`: list the data sets and download them."""

from pathlib import Path

import click

from blrobust.cli import output
from blrobust.cli.options import DATA_DIR
from blrobust.terminal import echo


@click.group()
def command() -> None:
    """List the data sets and download them."""


@command.command("list")
@DATA_DIR
@output.JSON
def list_sets(data_dir: Path | None) -> None:
    """List the data sets that blrobust knows, and whether each was downloaded."""
    from rich.table import Table
    from rich.text import Text

    from blrobust.cli.tables import print_table
    from blrobust.data.registry import NAMES, data_folder
    from blrobust.escaping import escape

    folder = data_folder(data_dir)
    if output.is_json():
        output.print_json(
            [
                {
                    "name": name,
                    "classes": source.classes,
                    "train": source.sizes.get("train"),
                    "test": source.sizes["test"],
                    "found": source.found(folder),
                    "path": str(folder / source.location) if source.files else None,
                    "citation": source.citation,
                }
                for name, source in NAMES.items()
            ]
        )
        return
    # Text, because a path may contain rich's markup.
    table = Table(caption=Text(escape(f"in {folder}")), caption_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("classes", justify="right")
    table.add_column("test", justify="right")
    table.add_column("where")
    table.add_column("citation")
    for name, source in NAMES.items():
        if not source.files:
            where = "bundled"
        elif source.found(folder):
            where = source.location
        else:
            where = "not found"
        size = f"{source.sizes['test']:,}"
        table.add_row(name, str(source.classes), size, where, source.citation)
    print_table(table)
    echo("Get one:   blrobust data get NAME")
    echo("Your own:  folder:PATH  one sub-folder of images per class")
    echo("           npz:PATH     arrays x (images), y (labels) and, optionally, classes (names)")


@command.command()
@click.argument("name")
@DATA_DIR
@output.JSON
def get(name: str, data_dir: Path | None) -> None:
    """Download the data set NAME, its test and its training images, and check the files.

    'blrobust data list' lists the names. Files that are already there are checked and kept.
    """
    from blrobust.data.registry import find
    from blrobust.data.sources import fetch

    source = find(name)
    folder = fetch(name, data_dir=data_dir) if source.files else None
    if output.is_json():
        output.print_json({"name": name, "folder": folder, "test": source.sizes["test"]})
    elif folder is None:
        echo(f"{name} is bundled with the package: there is nothing to download.")
    else:
        echo(f"{name} is in {folder}: {source.sizes['test']:,} test images.")
