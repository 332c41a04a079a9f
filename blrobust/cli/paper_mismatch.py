"""`blrobust paper mismatch`: models tested at other band limits than that of their training."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.cli import options, output
from blrobust.cli.announcement import Announcement, count, images
from blrobust.cli.config_file import config_options, dumped
from blrobust.cli.presentation import present

if TYPE_CHECKING:
    from blrobust.analysis.run_analysis import RunAnalysis


@click.command("mismatch")
@config_options
@click.argument("listed", metavar="[MODEL...]", nargs=-1)
@options.models(default=None)
@click.option(
    "--test-rates",
    default="0,10,20,30,40,50,60,70,80,85",
    show_default=True,
    help="Band limits in the test, in per cent (0 to 99), also as 0:80:20. 0, the full spectrum, is always "
    "measured; 50 and 85 mean the compressions of fft50 and fft85.",
)
@options.ARCH
@options.DATASET
@options.DATA_DIR
@options.LIMIT
@options.DEVICE
@options.BATCH_SIZE
@options.OUT
@options.OPEN
@options.DRY_RUN
@output.JSON
@output.QUIET
def command(
    listed: tuple[str, ...],
    models: str | None,
    test_rates: str,
    arch: str,
    dataset: str | None,
    data_dir: Path | None,
    limit: int | None,
    device: str,
    batch_size: int | None,
    out: Path | None,
    open_report: bool,
    dry_run: bool,
) -> None:
    """Test each MODEL at several band limits without retraining (Fig. 5 of the paper).

    Name the models as arguments or with --models; one of the two is required. They are models with trained
    weights: names, or LABEL=FILE.safetensors. The clean accuracy is measured, and the report has a heat map
    and curves.
    """
    models = options.one_list(",".join(listed) or None, models)

    from blrobust.experiments import band_limits
    from blrobust.models.model_names import join_names, parse_names

    limits = band_limits.percents(test_rates, name="--test-rates")
    trained = parse_names(models)
    if dumped(models=models):
        return
    announcement = Announcement(
        f"{', '.join(trained)} x {count(len(limits), 'band limit')} x "
        + images(dataset, data_dir=data_dir, limit=limit),
        device=device,
        out=out,
        dry_run=dry_run,
    )

    from blrobust import api

    folder, failed = options.measured(
        api.evaluate,
        join_names(band_limits.tested_at(trained, limits)),
        data=dataset,
        noise={"gaussian": 0},
        limit=limit,
        arch=arch,
        data_dir=data_dir,
        device=device,
        batch_size=batch_size,
        out=out,
        progress=announcement,
    )
    present(folder, _show, open_report=open_report, failed=failed, finish=announcement.finish)


def _show(results: "RunAnalysis") -> None:
    from blrobust.cli.results import print_mismatch

    for analysis in results.kinds.values():
        print_mismatch(analysis)
