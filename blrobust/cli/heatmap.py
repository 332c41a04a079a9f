"""``blrobust heatmap``: the error of models under every single frequency."""

from pathlib import Path

import click

from blrobust.cli import options
from blrobust.cli.presentation import announce


@click.command("heatmap")
@click.argument("models", metavar="MODEL[,MODEL...]")
@click.option(
    "--size",
    type=options.POSITIVE,
    help="Frequencies shown: the centred SIZE x SIZE; 32 is all of them for images of 32 x 32.  "
    "[default: the largest odd size, 31 for 32 x 32]",
)
@click.option(
    "--norm",
    type=options.FiniteRange(0, 1e6),
    default=4.0,
    show_default=True,
    help="L2 norm of what is added to each channel, in pixel units of [0, 1].",
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
    help="Perturbed images that go through the network at once; auto is 500, and up to 5,000 on a GPU.",
)
@options.OUT
@options.OPEN
def command(
    models: str,
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
) -> None:
    """Add each single frequency to every image and draw the models' errors as a heat map.

    After Yin et al. 2019. The numbers go to heatmap.csv and the maps to heatmap.html in a folder;
    the same command goes on where it stopped.
    """
    from rich.table import Table
    from rich.text import Text

    from blrobust.analysis.heatmap import rings as mean_over_rings
    from blrobust.cli.tables import print_table
    from blrobust.evaluation import heatmap

    subjects = options.load(
        models=models, arch=arch, dataset=dataset, data_dir=data_dir, limit=limit, device=device
    )
    folder, frame = heatmap.execute(
        models=subjects.models,
        dataset=subjects.dataset,
        size=size,
        norm=norm,
        seed=seed,
        arch=arch,
        device=subjects.device,
        batch_size=batch_size,
        out=out,
    )
    table = Table(
        title=f"Error with one frequency of norm {norm:g} a channel, n = {len(subjects.dataset)}",
        title_style="",
        title_justify="left",
        caption="low, middle, high: thirds of the highest frequency, max(|row|, |column|)",
        caption_style="",
        caption_justify="left",
    )
    rings = mean_over_rings(frame)
    for header in ("model", *rings.columns):
        table.add_column(header, justify="left" if header == "model" else "right")
    for label, row in rings.iterrows():
        table.add_row(Text(str(label)), *("-" if share != share else f"{share:.1%}" for share in row))
    print_table(table)
    announce(folder / heatmap.REPORT, open_report=open_report)
