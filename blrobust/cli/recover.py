"""`blrobust recover`: adversarial inputs that a filter, fewer bits or another model classifies correctly."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from blrobust.cli import options, output
from blrobust.cli.announcement import Announcement, count, images
from blrobust.cli.config_file import config_options, dumped
from blrobust.cli.presentation import present
from blrobust.errors import UserError
from blrobust.perturbations.levels import MOST

if TYPE_CHECKING:
    from blrobust.analysis.recovery import RecoveryAnalysis

N = TypeVar("N", int, float)


@click.command("recover")
@config_options
@click.option(
    "--source",
    default="fp32",
    show_default=True,
    help="Model on which the attacks search for adversarial inputs.",
)
@click.option(
    "--kind",
    "kinds",
    default="pgd-linf,deepfool-l2",
    show_default=True,
    help="Attacks, comma-separated ('blrobust attacks' lists them).",
)
@click.option(
    "--strength",
    type=options.FractionRange(0, 1e9, min_open=True),
    help="Strength of the attacks that take one. Attacks that search for the smallest perturbation ignore "
    "this option.  [default: the second level above 0 that 'blrobust attacks' lists, such as 2/255]",
)
@click.option(
    "--compressions",
    default="0.1,0.25,0.5,0.75,0.9",
    show_default=True,
    help="Low-pass filters to try, each given by the share of the frequencies that it is asked to drop "
    "(nominal compression; the share really dropped differs a little).",
)
@click.option(
    "--bits", default="8,5,4,3", show_default=True, help="Colour depths to try, in bits per colour."
)
@click.option(
    "--models",
    "--networks",
    "networks",
    default="fft50,fft85",
    show_default=True,
    help="Other models to try, comma-separated: each classifies the inputs in place of the source.",
)
@options.ARCH
@options.DATASET
@options.DATA_DIR
@options.LIMIT
@options.SEED
@options.DEVICE
@options.BATCH_SIZE
@options.OUT
@options.OPEN
@options.DRY_RUN
@output.JSON
@output.QUIET
def command(
    source: str,
    kinds: str,
    strength: float | None,
    compressions: str,
    bits: str,
    networks: str,
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
    """Count the adversarial inputs that are classified correctly again after a change of the model.

    The inputs are made by attacks on the model --source. Then they are classified behind a low-pass filter,
    with fewer bits per colour, or by another model in place of the source; each of these changes is called
    a channel. Every channel is also attacked by an adversary who knows the channel.

    After an interruption, the same command continues the measurement.
    """
    attacks = [name.strip() for name in kinds.split(",")]
    shares = [_number("--compressions", text, float) for text in compressions.split(",")]
    depths = [_number("--bits", text, int) for text in bits.split(",")]
    for option, values in (("--kind", attacks), ("--compressions", shares), ("--bits", depths)):
        if len(values) > MOST:
            raise UserError(f"{option}: got {len(values):,} values; legal: at most {MOST:,}")
        if len(set(values)) < len(values):
            raise UserError(f"{option}: got {','.join(map(str, values))}; legal: each value once")
    if dumped():
        return
    channel_count = len(shares) + len(depths) + len(networks.split(","))
    announcement = Announcement(
        f"{', '.join(attacks)} on {source} x {count(channel_count, 'channel')} x "
        + images(dataset, data_dir=data_dir, limit=limit),
        device=device,
        out=out,
        dry_run=dry_run,
        unit="pairs of attack and channel",
    )

    from blrobust import frequency

    folder, failed = options.measured(
        frequency.recover,
        source,
        data=dataset,
        attacks=attacks,
        strength=strength,
        compressions=shares,
        bits=depths,
        networks=networks,
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


def _number(option: str, text: str, kind: Callable[[str], N]) -> N:
    try:
        return kind(text)
    except ValueError:
        whole = "whole " if kind is int else ""
        raise UserError(f"{option}: got {text.strip()!r}; legal: {whole}numbers") from None


def _show(results: "RecoveryAnalysis") -> None:
    from rich.table import Table
    from rich.text import Text

    from blrobust.cli.tables import flag_column, print_table
    from blrobust.reports.conclusions import few_images
    from blrobust.reports.number_text import fixed
    from blrobust.reports.recovery import facts, share
    from blrobust.terminal import echo

    for attack, rows in results.table.groupby("attack", sort=False):
        table = Table(
            title=Text(facts(rows)),
            title_style="",
            title_justify="left",
            caption="of the fooled images; adaptive: the attack runs through channel and network; "
            "adaptive L2: mean over the images that it breaks",
            caption_style="",
            caption_justify="left",
        )
        for header in ("channel", "distortion", "recovered", "95 %", "clean", "adaptive", "adaptive L2"):
            table.add_column(header, justify="left" if header == "channel" else "right")
        add_flags = flag_column(
            table, {key: found for key, found in results.flags.items() if key[0] == attack}
        )
        for row in rows.to_dict("records"):
            table.add_row(
                Text(row["channel"]),
                _length(row["distortion"]),
                share(row["recovered"], row["fooled"]),
                f"{fixed(100 * row['ci_low'], 0)} to {fixed(100 * row['ci_high'], 0)}"
                if row["fooled"]
                else "-",
                share(row["clean"], row["fooled"]),
                share(row["adaptive"], row["fooled"]),
                _mean_length(row["adaptive_l2"], results.broken[row["attack"], row["channel"]]),
                *add_flags((row["attack"], row["channel"])),
            )
        print_table(table)
        for warning in few_images(int(rows.fooled.iloc[0]), noun="fooled image"):
            echo(warning)


def _mean_length(value: float, count: int) -> str:
    """Return a mean distance with the number of its images, or a dash if there is none."""
    from blrobust.reports.recovery import images

    return f"{_length(value)} {images(count)}" if count else "-"


def _length(value: float) -> str:
    """Return a mean distance with two decimals, or a dash if there is no mean."""
    return "-" if math.isnan(value) else f"{value:.2f}"
