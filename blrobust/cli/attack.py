"""``blrobust attack``: accuracy under attack."""

from pathlib import Path

import click

from blrobust import levels
from blrobust.attacks.registry import ATTACKS
from blrobust.cli import options


@click.command("attack")
@click.option("--kind", type=click.Choice(list(ATTACKS)), required=True, help="Kind of attack.")
@click.option(
    "--strength",
    help="Strengths, as a:b (21 of them), a:b:step or a,b,c; 0 is always measured. pixel: how many pixels "
    "are set to black or white.  [default: pixel 0:1000:50]",
)
@click.option(
    "--legacy",
    is_flag=True,
    help="The paper's attack space, CIFAR-10 only: the report then shows the published curves.",
)
@options.shared("fp32,fp16,fft50,fft85")
def command(
    kind: str,
    strength: str | None,
    legacy: bool,
    models: str,
    arch: str,
    dataset: str | None,
    data_dir: Path | None,
    limit: int | None,
    draws: int,
    seed: int,
    device: str,
    batch_size: int,
    out: Path | None,
    open_report: bool,
) -> None:
    """Measure accuracy under attack, strength by strength, and write a report.

    Every input that the attack returns is checked; one that fails counts as robust, with a reason.
    The run goes to a folder; the same command resumes it and never repeats what is done.
    """
    entry = ATTACKS[kind]
    strengths = levels.parse(entry.grid if strength is None else strength)

    from blrobust import sweep
    from blrobust.attacks.guard import Guard
    from blrobust.attacks.target import PIXELS, legacy_space

    subjects = options.load(
        models=models, arch=arch, dataset=dataset, data_dir=data_dir, limit=limit, device=device
    )
    if strength is None:  # the default grid, as far as these images have pixels for it
        feasible = entry.feasible(strengths, tuple(subjects.dataset.images.shape[1:]))
        strengths = feasible if len(feasible) > 1 else strengths
    entry.check_strengths(strengths, tuple(subjects.dataset.images.shape[1:]))
    guard = Guard(kind, entry, seed=seed, space=legacy_space(subjects.dataset) if legacy else PIXELS)
    sweep.execute(
        guard,
        command="attack",
        models=subjects.models,
        dataset=subjects.dataset,
        levels=strengths,
        draws=draws,
        seed=seed,
        arch=arch,
        device=subjects.device,
        batch_size=batch_size,
        out=out,
        open_report=open_report,
    )
