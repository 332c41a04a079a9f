"""`blrobust export`: the outcomes or the table of a stored run as a file for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.cli import output
from blrobust.cli.options import UserPath
from blrobust.errors import UserError
from blrobust.user_paths import output_file

if TYPE_CHECKING:
    import pandas as pd

PARQUET = ".parquet"
PER_IMAGE = (PARQUET, ".csv")  # legal endings
TABLE = (".csv", ".md", ".tex")


@click.command("export")
@click.argument("run")
@click.option(
    "--per-image",
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="Write one row per image, level, model and draw: predictions, probabilities and, for attacks, "
    "distances. FILE ends in .parquet (with pip install 'blrobust[parquet]') or .csv.",
)
@click.option(
    "--table",
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="Write one row per model and level. FILE ends in .csv (all columns of results.csv), or in .md or "
    ".tex (accuracies with their intervals, in Markdown or LaTeX with booktabs).",
)
@output.JSON
def command(run: str, per_image: Path | None, table: Path | None) -> None:
    """Write the results of RUN to the files given by --per-image and --table; at least one is required.

    RUN is a run folder, or the first characters of its name in the folder runs/, such as 1cb0. Nothing
    is measured. The files of an unfinished run have the part that is done. Existing files are replaced.
    """
    if per_image is None and table is None:
        raise UserError("--per-image, --table: got neither; legal: at least one of them")
    if per_image is not None:
        per_image = output_file(per_image, "--per-image", PER_IMAGE)
    if table is not None:
        table = output_file(table, "--table", TABLE)
    if per_image is not None and table is not None and per_image.resolve() == table.resolve():
        raise UserError(f"--table: got {table}, the file of --per-image; legal: another file")
    if per_image is not None and per_image.suffix.lower() == PARQUET:
        _check_pyarrow(per_image)

    from blrobust import api, atomic_write
    from blrobust.analysis.per_image import LEVEL_LABEL
    from blrobust.cli.exported_tables import LAYOUTS, shown
    from blrobust.terminal import echo

    results = api.open_run(run)
    written = {"per_image": per_image, "table": table}
    if per_image is not None:
        outcomes = results.per_image()
        is_parquet = per_image.suffix.lower() == PARQUET
        atomic_write.write_bytes(per_image, _parquet(outcomes) if is_parquet else _csv(outcomes))
    if table is not None:
        rows, suffix = results.table.drop(columns=LEVEL_LABEL, errors="ignore"), table.suffix.lower()
        content = LAYOUTS[suffix](shown(rows)).encode() if suffix in LAYOUTS else _csv(rows)
        atomic_write.write_bytes(table, content)
    if output.is_json():
        output.print_json(written)
    else:
        for name, path in written.items():
            if path is not None:
                echo(f"{name.replace('_', ' ')}: {path}")


def _check_pyarrow(path: Path) -> None:
    import importlib

    try:
        importlib.import_module("pyarrow")
    except ImportError as error:
        raise UserError(
            f"--per-image: got {path} without the package pyarrow; legal: a name that ends in .csv, or first "
            "pip install 'blrobust[parquet]'"
        ) from error


def _parquet(table: "pd.DataFrame") -> bytes:
    return table.to_parquet(None, engine="pyarrow", index=False)


def _csv(table: "pd.DataFrame") -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode("utf-8", errors="backslashreplace")
