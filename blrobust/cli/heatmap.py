"""`blrobust heatmap`: the error of models when a single frequency is added to their images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.cli import options, output
from blrobust.cli.announcement import Announcement, images, names
from blrobust.cli.config_file import config_options, dumped
from blrobust.cli.presentation import present

if TYPE_CHECKING:
    from blrobust.analysis.heatmap import HeatmapAnalysis


@click.command("heatmap")
@config_options
@options.MODELS_ARGUMENT
@options.models(default=None)
@click.option(
    "--size",
    type=options.POSITIVE,
    help="Size of the map: the SIZE x SIZE lowest frequencies. An odd size has (0, 0) exactly in the middle; "
    "the default is the largest odd size (31 for images of 32 x 32). Size 32 also has the highest "
    "frequencies.",
)
@click.option(
    "--norm",
    type=options.FiniteRange(0, 1e6),
    default=4.0,
    show_default=True,
    help="L2 norm of the wave that is added to each colour channel. Pixels are in [0, 1].",
)
@options.ARCH
@options.DATASET
@options.DATA_DIR
@options.LIMIT
@options.SEED
@options.DEVICE
@click.option(
    "--batch-size",
    type=options.BatchSize(min=1),
    default="auto",
    show_default=True,
    help="Maximum number of images per forward pass; auto is 500 on a CPU, and 500 to 5,000 on a GPU, "
    "depending on its memory.",
)
@options.OUT
@options.OPEN
@options.DRY_RUN
@output.JSON
@output.QUIET
def command(
    listed: str | None,
    models: str | None,
    size: int | None,
    norm: float,
    arch: str,
    dataset: str | None,
    data_dir: Path | None,
    limit: int | None,
    seed: int,
    device: str,
    batch_size: int | None,
    out: Path | None,
    open_report: bool,
    dry_run: bool,
) -> None:
    """Measure the error of each MODEL when a single frequency is added to every image, as a heat map.

    The error is the share of the images that the model misclassifies. Name the models as the argument or
    with --models; one of the two is required. The method is that of Yin et al. 2019. The folder of the
    results has the numbers (results.csv) and the maps (report.html). After an interruption, the same
    command continues the measurement.
    """
    models = options.one_list(listed, models)
    if dumped(models=models):
        return
    frequencies = "a map of the default size" if size is None else f"a map of {size} by {size} frequencies"
    announcement = Announcement(
        f"{names(models)}: {frequencies}, {images(dataset, data_dir=data_dir, limit=limit)}",
        device=device,
        out=out,
        dry_run=dry_run,
        unit="frequencies",
    )

    from blrobust import frequency

    folder, failed = options.measured(
        frequency.heatmap,
        models,
        data=dataset,
        size=size,
        norm=norm,
        limit=limit,
        seed=seed,
        arch=arch,
        data_dir=data_dir,
        device=device,
        batch_size=batch_size,
        out=out,
        progress=announcement,
    )
    present(folder, _show, open_report=open_report, failed=failed, finish=announcement.finish)


def _show(results: "HeatmapAnalysis") -> None:
    from rich.table import Table
    from rich.text import Text

    from blrobust.analysis.heatmap import ring_bounds, rings
    from blrobust.cli.tables import flag_column, print_table
    from blrobust.reports.conclusions import few_images
    from blrobust.reports.number_text import per_cent
    from blrobust.terminal import echo

    config = results.config
    bands = [f"{name} {text}" for name, text in ring_bounds(results.table).items()]
    caption = [f"max(|row|, |column|): {', '.join(bands)}"] if bands else []
    table = Table(
        title=f"Error with one frequency of norm {config.norm:g} per channel, n = {config.dataset.n}",
        title_style="",
        title_justify="left",
        caption="; ".join([*caption, "mean without (0, 0), worst with it"]),
        caption_style="",
        caption_justify="left",
    )
    means = rings(results.table)
    for header in ("model", *means.columns):
        table.add_column(header, justify="left" if header == "model" else "right")
    add_flags = flag_column(table, results.flags)
    for label, row in means.iterrows():
        shares = ("-" if share != share else f"{per_cent(share)} %" for share in row)
        table.add_row(Text(str(label)), *shares, *add_flags(str(label)))
    print_table(table)
    for warning in few_images(config.dataset.n):
        echo(warning)
