"""`blrobust report`: the report of stored runs as one HTML file."""

from pathlib import Path

import click

from blrobust.cli import options
from blrobust.cli.output import JSON, is_json, print_json
from blrobust.cli.presentation import drawing, open_in_browser
from blrobust.errors import UserError
from blrobust.file_names import REPORT_SUFFIXES
from blrobust.terminal import echo
from blrobust.user_paths import output_file

MOST_RUNS = 200  # each is open, and a process may have 256 open files on some systems


@click.command("report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--out",
    "--output",
    "output",
    type=options.UserPath(dir_okay=False),
    help="HTML file to write.  [default: report.html, for one RUN in its folder, for several in the current "
    "folder]",
)
@options.BASELINE
@click.option(
    "--figures",
    type=options.UserPath(),
    metavar="DIR",
    help="Also write the figures of the report to this folder, as SVG files.",
)
@click.option(
    "--tables",
    type=options.UserPath(),
    metavar="DIR",
    help="Also write the tables of the report to this folder, as Markdown and as LaTeX (booktabs, amssymb).",
)
@click.option("--open", "open_report", is_flag=True, help="Open the report in the browser.")
@JSON
def command(
    runs: tuple[str, ...],
    output: Path | None,
    baseline: str | None,
    figures: Path | None,
    tables: Path | None,
    *,
    open_report: bool,
) -> None:
    """Write the report of one RUN, or a comparison of several, as one HTML file.

    RUN is a run folder, or the first characters of its name in the folder runs/, such as 1cb0.

    Only runs of noise and attacks can be compared. Runs of the same noise or the same attack share a figure.
    Nothing is measured again. The report of an unfinished run shows the part that is done.
    """
    if len(runs) > MOST_RUNS:
        raise UserError(f"RUN: got {len(runs):,} runs; legal: at most {MOST_RUNS}")

    from blrobust import api
    from blrobust.runs.folder import REPORT

    if output is not None:
        output = output_file(output, "--out", REPORT_SUFFIXES)
    results = api.open_run(runs[0]) if len(runs) == 1 else api.compare(*runs)
    if output is None:
        output = results.folder / REPORT if len(results.folders) == 1 else Path(REPORT)
    with drawing(output):
        results.report(output, baseline=baseline)
        folders = _write_parts(output.read_text("utf-8"), figures, tables)
    if is_json():
        print_json({"report": str(output)} | {name: str(folder) for name, folder in folders.items()})
    else:
        for name, path in {"report": output, **folders}.items():
            echo(f"{name}: {path}")
    if open_report:
        open_in_browser(output)


def _write_parts(page: str, figures: Path | None, tables: Path | None) -> dict[str, Path]:
    """Write the figures and the tables of a page to the folders that are given, and return these by name."""
    from blrobust.atomic_write import write_text
    from blrobust.cli.exported_tables import LAYOUTS
    from blrobust.reports import extracts
    from blrobust.user_paths import output_folder

    found: dict[str, tuple[Path, dict[str, str]]] = {}
    if figures is not None:
        files = {f"{name}.svg": text for name, text in extracts.figures(page).items()}
        found["figures"] = (output_folder(figures, "--figures"), files)
    if tables is not None:
        cells = extracts.tables(page)
        files = {f"{n}{end}": layout(cells[n]) for n in cells for end, layout in LAYOUTS.items()}
        found["tables"] = (output_folder(tables, "--tables"), files)
    for folder, files in found.values():
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_text(folder / name, text)
    return {name: folder for name, (folder, _) in found.items()}
