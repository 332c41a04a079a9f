"""``blrobust noise``: accuracy under Gaussian or uniform noise."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.cli import options
from blrobust.cli.presentation import present
from blrobust.perturbations import levels

if TYPE_CHECKING:
    from blrobust.analysis.run_analysis import RunAnalysis

# kind -> (its option, levels by default, space by default)
KINDS = {
    "gaussian": ("--sigma", "0:2", "normalized"),
    "uniform": ("--epsilon", "0:0.5", "pixel"),
}
LEGACY_EPSILON = "0:1"  # the published axis of uniform noise


@click.command("noise")
@click.option(
    "--kind", type=click.Choice(list(KINDS)), default="gaussian", show_default=True, help="Kind of noise."
)
@click.option(
    "--sigma",
    help="Gaussian noise: its standard deviations, as a:b (21 of them), a:b:step or a,b,c; 0 is always "
    "measured.  [default: 0:2]",
)
@click.option(
    "--epsilon",
    help="Uniform noise: its half-widths, in the same way.  [default: 0:0.5, with --legacy 0:1]",
)
@click.option(
    "--space",
    type=click.Choice(["normalized", "pixel"]),
    help="normalized: added after normalisation, not clipped. pixel: added to pixels in [0, 1], clipped.  "
    "[default: normalized for gaussian, pixel for uniform]",
)
@click.option(
    "--legacy",
    is_flag=True,
    help="The paper's attack space, CIFAR-10 only: clipped to its bounds, epsilon squared. The report then "
    "shows the published curves of uniform noise; those of Gaussian noise it shows without.",
)
@options.shared("fp32,fft50,fft85")
def command(
    kind: str,
    sigma: str | None,
    epsilon: str | None,
    space: str | None,
    legacy: bool,
    models: str,
    arch: str,
    dataset: str | None,
    data_dir: Path | None,
    limit: int | None,
    draws: int,
    seed: int,
    device: str,
    batch_size: int | None,
    out: Path | None,
    open_report: bool,
) -> None:
    """Measure accuracy under noise, level by level, and write a report.

    The run goes to a folder; the same command resumes it and never repeats what is done.
    """
    option, default, default_space = KINDS[kind]
    given = {"--sigma": sigma, "--epsilon": epsilon}
    grid = given.pop(option)
    for other, text in given.items():
        if text is not None:
            raise click.UsageError(f"{other} {text} does not go with --kind {kind}: give {option}")
    if legacy and space is not None:
        raise click.UsageError(f"--space {space} does not go with --legacy, a space of its own")
    if legacy and kind == "uniform":
        default = LEGACY_EPSILON
    grid_levels = levels.parse(default if grid is None else grid)

    from blrobust.evaluation import sweep
    from blrobust.perturbations.noise import Noise
    from blrobust.perturbations.paper_bounds import SPACE

    subjects = options.load(
        models=models, arch=arch, dataset=dataset, data_dir=data_dir, limit=limit, device=device
    )
    noise = Noise(
        kind,
        space=SPACE if legacy else space or default_space,
        dataset=subjects.dataset,
        seed=seed,
        device=subjects.device,
    )
    folder = sweep.execute(
        [sweep.Part(noise, grid_levels)],
        command="noise",
        models=subjects.models,
        dataset=subjects.dataset,
        draws=draws,
        seed=seed,
        arch=arch,
        device=subjects.device,
        batch_size=batch_size,
        out=out,
    )
    present(folder, _show, open_report=open_report)


def _show(results: "RunAnalysis") -> None:
    from blrobust.cli import tables

    tables.print_summary(results.run, results.summary)
