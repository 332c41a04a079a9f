"""`blrobust noise`: accuracy under Gaussian or uniform noise."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from blrobust.cli import options
from blrobust.cli.announcement import Announcement, count, images, names
from blrobust.cli.config_file import config_options, dumped
from blrobust.cli.presentation import present
from blrobust.perturbations import levels
from blrobust.perturbations.noise_kinds import KINDS, default_levels
from blrobust.perturbations.paper_bounds import SPACE as LEGACY

if TYPE_CHECKING:
    from blrobust.analysis.run_analysis import RunAnalysis

OPTIONS = {"gaussian": "--sigma", "uniform": "--epsilon"}  # for the levels of each kind
MODELS = "fp32,fft50,fft85"
CONTROL = "lowpass-fft85+fp32"  # matched on this data set and architecture alone
CONTROL_DATA, CONTROL_ARCH = "cifar10", "resnet20"


@click.command("noise")
@config_options
@click.option(
    "--kind", type=click.Choice(list(KINDS)), default="gaussian", show_default=True, help="Kind of noise."
)
@click.option(
    "--sigma",
    help="Standard deviations of Gaussian noise: a:b (21 values from a to b), a:b:step or a list a,b,c. 0 is "
    "always measured.  [default: 0:2]",
)
@click.option(
    "--epsilon",
    help="Half-widths of uniform noise, in the notation of --sigma. With --legacy they are the epsilons of "
    "the paper's figures.  [default: 0:0.5; with --legacy 0:1]",
)
@click.option(
    "--space",
    type=click.Choice(["normalized", "pixel"]),
    help="Input space, in whose units the noise is. normalized: images minus the data set's mean, divided by "
    "its standard deviation; noisy images are not clipped. pixel: pixels in [0, 1], to which noisy images "
    "are clipped.  [default: normalized for gaussian, pixel for uniform]",
)
@click.option(
    "--legacy",
    is_flag=True,
    help="Normalise the images as in the code of Dziedzic et al. 2019 (CIFAR-10 only), and clip noisy images "
    "to the bounds of that code, -2.43 and 2.75 in normalised units. The half-width of uniform noise is "
    "5.183 * epsilon^2 in these units, because Foolbox 1, which the paper used, scaled by epsilon twice. The "
    "report shows the published curves of uniform noise only with this option, and those of Gaussian noise "
    "only without it. Excludes --space.",
)
@options.shared(f"{MODELS},{CONTROL}")
def command(
    kind: str,
    sigma: str | None,
    epsilon: str | None,
    space: Literal["normalized", "pixel"] | None,
    legacy: bool,
    models: str,
    baseline: str | None,
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
    dry_run: bool,
) -> None:
    """Measure accuracy under Gaussian or uniform noise, level by level, and write a report.

    The results go to a run folder. After an interruption, the same command continues the run and
    measures nothing twice.
    """
    option = OPTIONS[kind]
    given = {"--sigma": sigma, "--epsilon": epsilon}
    grid = given.pop(option)
    for other, text in given.items():
        if text is not None:
            raise click.UsageError(f"{other}: got {text} with --kind {kind}; legal: {option}")
    if legacy and space is not None:
        raise click.UsageError(f"--space: got {space} with --legacy; legal: one of the two options")
    chosen_space: Literal["normalized", "pixel", "legacy"] | None = LEGACY if legacy else space
    if not _was_given("models") and not _has_control(dataset, arch):
        models = MODELS
    text = default_levels(kind, chosen_space) if grid is None else grid
    noise_levels = levels.parse(text, name=option)
    if dumped(models=models):
        return
    announcement = Announcement(
        f"{names(models)} x {count(len(noise_levels), 'level')} x "
        + images(dataset, data_dir=data_dir, limit=limit)
        + (f" x {draws} draws" if draws > 1 else ""),
        device=device,
        out=out,
        dry_run=dry_run,
    )

    options.check_baseline(baseline, models=models)

    from blrobust import api

    folder, failed = options.measured(
        api.evaluate,
        models,
        data=dataset,
        noise={kind: noise_levels},
        space=chosen_space,
        limit=limit,
        draws=draws,
        seed=seed,
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


def _was_given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is not click.core.ParameterSource.DEFAULT


def _has_control(dataset: str | None, arch: str) -> bool:
    """Return whether the control model `CONTROL` can be used for this data set and architecture.

    The low-pass of this model was chosen for one data set and architecture. A user's own images count as
    CIFAR-10, because bundled models can only be used for them if the classes are the same.
    """
    is_own = dataset is not None and dataset.startswith(("folder:", "npz:"))
    return arch == CONTROL_ARCH and (is_own or dataset in (None, CONTROL_DATA, f"{CONTROL_DATA}-sample"))


def _show(results: "RunAnalysis") -> None:
    from blrobust.cli.results import print_conclusions, print_summary

    for analysis in results.kinds.values():
        print_summary(analysis)
        print_conclusions(analysis)
