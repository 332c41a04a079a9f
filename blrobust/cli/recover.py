"""``blrobust recover``: which labels come back when adversarial inputs pass a channel."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from blrobust.cli import options
from blrobust.cli.presentation import announce
from blrobust.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

N = TypeVar("N", int, float)


@click.command("recover")
@click.option("--source", default="fp32", show_default=True, help="Model that the inputs are crafted on.")
@click.option(
    "--kind",
    "kinds",
    default="pgd-linf,deepfool-l2",
    show_default=True,
    help="Comma-separated names of 'blrobust attacks'.",
)
@click.option(
    "--strength",
    type=options.Strength(0, 1e9, min_open=True),
    help="Strength of attacks that have one; the others search for the smallest perturbation.  "
    "[default: the third of the table's, 2/255 in Linf]",
)
@click.option(
    "--compressions",
    default="0.1,0.25,0.5,0.75,0.9",
    show_default=True,
    help="Low-passes of the input: nominal shares of the spectrum dropped.",
)
@click.option("--bits", default="8,5,4,3", show_default=True, help="Colour depths of the input.")
@click.option(
    "--networks", default="fft50,fft85", show_default=True, help="Models that take the source's place."
)
@options.ARCH
@options.DATASET
@options.DATA_DIR
@options.LIMIT
@options.SEED
@options.DEVICE
@options.OUT
@options.OPEN
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
    out: Path | None,
    open_report: bool,
) -> None:
    """Craft adversarial inputs on one model and count the labels that a channel wins back.

    Channels are low-passes and colour depths of the input and band-limited networks, each also
    against an adversary who knows of it. The same command goes on where it stopped.
    """
    names = [name.strip() for name in kinds.split(",")]
    shares = [_number("--compressions", text, float) for text in compressions.split(",")]
    depths = [_number("--bits", text, int) for text in bits.split(",")]
    for option, values in (("--kind", names), ("--compressions", shares), ("--bits", depths)):
        if len(set(values)) < len(values):
            raise UserError(f"{option} {','.join(map(str, values))} names one twice")

    from torch import nn

    from blrobust.evaluation import recovery
    from blrobust.models import channels, model_names

    recovery.check_kinds(names)
    wanted = model_names.parse_names(networks)
    if source in wanted:
        raise UserError(f"--networks {networks} holds the source {source}: it is no channel of its own")
    subjects = options.load(
        models=",".join([f'"{name}"' if "," in name else name for name in (source, *wanted)]),
        arch=arch,
        dataset=dataset,
        data_dir=data_dir,
        limit=limit,
        device=device,
    )
    origin, *others = subjects.models
    height, width = subjects.dataset.images.shape[-2:]
    ways = channels.low_passes(shares, origin.module, height=height, width=width)
    ways += channels.colour_depths(depths, origin.module)
    ways += [
        channels.Channel(m.label, "network", nn.Identity(), m.module, m.card["effective_compression"])
        for m in others
    ]
    folder, frame = recovery.execute(
        source=origin,
        networks=others,
        channels=ways,
        kinds=names,
        level=strength,
        dataset=subjects.dataset,
        seed=seed,
        arch=arch,
        device=subjects.device,
        out=out,
    )
    _print(frame)
    announce(folder / recovery.REPORT, open_report=open_report)


def _number(option: str, text: str, kind: Callable[[str], N]) -> N:
    try:
        return kind(text)
    except ValueError:
        raise UserError(
            f"{option}: {text.strip()!r} is not a {'whole ' if kind is int else ''}number"
        ) from None


def _print(frame: "pd.DataFrame") -> None:
    from rich.table import Table
    from rich.text import Text

    from blrobust.cli.tables import print_table
    from blrobust.reports.recovery import facts, share

    for _, rows in frame.groupby("attack", sort=False):
        table = Table(
            title=Text(facts(rows)),
            title_style="",
            title_justify="left",
            caption="of the fooled images; adaptive: the attack runs through channel and network",
            caption_style="",
            caption_justify="left",
        )
        for header in ("channel", "L2 seen", "labels back", "95 %", "clean", "adaptive", "adaptive L2"):
            table.add_column(header, justify="left" if header == "channel" else "right")
        for row in rows.to_dict("records"):
            table.add_row(
                Text(row["channel"]),
                f"{row['distortion']:.2f}",
                share(row["recovered"], row["fooled"]),
                f"{row['ci_low']:.0%} to {row['ci_high']:.0%}" if row["fooled"] else "-",
                share(row["clean"], row["fooled"]),
                share(row["adaptive"], row["fooled"]),
                f"{row['adaptive_l2']:.2f}",
            )
        print_table(table)
