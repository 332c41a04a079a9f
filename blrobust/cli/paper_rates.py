"""`blrobust paper rates`: the clean accuracy of models that were trained at several band limits."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from blrobust.cli import options, output
from blrobust.cli.announcement import Announcement, images
from blrobust.cli.config_file import config_options, dumped
from blrobust.cli.presentation import present
from blrobust.errors import UserError

if TYPE_CHECKING:
    from blrobust.analysis.run_analysis import RunAnalysis

SEEDS = click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Number of training seeds of each model: NAME, NAME-seed1, NAME-seed2, ...",
)


@click.command("rates")
@config_options
@click.option(
    "--rates",
    default="0,10,20,30,40,50,85",
    show_default=True,
    help="Band limits of the models, in per cent (0 to 99), also as 0:80:20. 0, the full spectrum (fp32), is "
    "always measured; NN means the model fftNN.",
)
@click.option(
    "--fft-size",
    type=click.Choice(["paper", "compact"]),
    default="paper",
    show_default=True,
    help="Size of the transforms: compact means the models fftNN-compact.",
)
@SEEDS
@click.option("--train", "trains", is_flag=True, help="Train the models without weights first.")
@options.BASELINE
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
    rates: str,
    fft_size: Literal["paper", "compact"],
    seeds: int,
    trains: bool,
    baseline: str | None,
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
    """Measure clean accuracy by band limit (Table 1 and Fig. 3 of the paper, fixed scheme).

    Models without weights are named, with the command that trains them, and left out.
    """
    from blrobust.experiments import band_limits

    limits = band_limits.percents(rates, name="--rates")
    if dumped():
        return

    from blrobust import api
    from blrobust.evaluation.subjects import load_images
    from blrobust.models.model_names import join_names
    from blrobust.terminal import echo

    test = load_images(dataset, data_dir=data_dir, limit=1)
    wanted = band_limits.trained_at(limits, fft_size=fft_size, seeds=seeds)
    models, missing = band_limits.split_by_weights(wanted, arch=arch, dataset=test)
    if missing and trains and not dry_run:
        from blrobust.cli.paper_training import train

        train(missing, arch=arch, dataset=test, data_dir=data_dir, device=device)
        models, missing = wanted, []
    line = band_limits.without_weights(missing, arch=arch, dataset=test) if missing else ""
    if not models:
        raise UserError(f"--rates: got {rates}; {line}")
    if missing and not output.is_quiet():
        echo(line, err=True)
    announcement = Announcement(
        f"{', '.join(models)} x {images(dataset, data_dir=data_dir, limit=limit)}",
        device=device,
        out=out,
        dry_run=dry_run,
    )
    options.check_baseline(baseline, models=join_names(models))
    folder, failed = options.measured(
        api.evaluate,
        join_names(models),
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
    present(
        folder, _show, baseline=baseline, open_report=open_report, failed=failed, finish=announcement.finish
    )


def _show(results: "RunAnalysis") -> None:
    from blrobust.cli.results import print_rates

    for analysis in results.kinds.values():
        print_rates(analysis)
