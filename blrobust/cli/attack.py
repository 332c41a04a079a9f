"""`blrobust attack`: accuracy under adversarial attack."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from blrobust.cli import options
from blrobust.cli.announcement import Announcement, count, images, names
from blrobust.cli.config_file import config_options, dumped
from blrobust.cli.presentation import present
from blrobust.errors import UserError
from blrobust.perturbations.paper_bounds import SPACE as LEGACY

if TYPE_CHECKING:
    from blrobust.analysis.run_analysis import RunAnalysis

NAMED = 3  # attacks that the announcement names; more are counted
DRAWS = (
    "Repetitions of each attack with other random numbers. The accuracy is the mean over them (for the worst "
    "of several starts: --set restarts=N)."
)


@click.command("attack")
@config_options
@click.option(
    "--kind",
    required=True,
    help="Attacks, comma-separated: names, patterns such as 'pgd*', or the suites suite:quick, "
    "suite:paper and suite:standard; 'blrobust attacks' lists them.",
)
@click.option(
    "--strength",
    help="Strengths: a:b (21 values from a to b), a:b:step or a list a,b,c; fractions such as 8/255 are "
    "legal. 0 is always measured. 'blrobust attacks' lists the unit and the default strengths of each "
    "attack.  [default: those of the attack]",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Change attack parameters: steps=100,restarts=5, or pgd-linf.steps=100 for one attack; "
    "'blrobust attacks --parameters' lists them.",
)
@click.option(
    "--preset",
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="Numbers of steps and queries. default: few, so that most attacks take seconds. paper: as many as "
    "in the publication of the attack.",
)
@click.option(
    "--target",
    type=click.IntRange(min=0),
    help="Index of the class that targeted attacks aim at; 'blrobust attacks' marks these attacks as "
    "targeted. Images of this class are not attacked: they count in the accuracy, but not in the columns "
    "median and success.  [default: the second most likely class of each image]",
)
@click.option(
    "--source",
    help="Transfer attack: search for adversarial inputs on this model, then classify them with each of "
    "--models.  [default: each model is attacked itself]",
)
@click.option(
    "--save-adversarials",
    is_flag=True,
    help="Store the inputs of successful attacks, as safetensors files in the run folder.",
)
@click.option(
    "--legacy",
    is_flag=True,
    help="Normalise the images, and limit attacked ones to bounds, as in the code of Dziedzic et al. 2019 "
    "(CIFAR-10 only). The report then shows the published curves of the attacks that have some.",
)
@options.shared("fp32,fp16,fft50,fft85", draws=DRAWS)
def command(
    kind: str,
    strength: str | None,
    changes: tuple[str, ...],
    preset: Literal["default", "paper"],
    target: int | None,
    source: str | None,
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
    *,
    save_adversarials: bool,
    dry_run: bool,
) -> None:
    """Measure accuracy under adversarial attack, strength by strength, and write a report.

    Every input that an attack returns is checked. If an input fails a check, its image counts as robust,
    and the reason is stored. The results go to a run folder. After an interruption, the same command
    continues the run and measures nothing twice.
    """
    from blrobust.attacks.catalogue import grids, selection
    from blrobust.attacks.catalogue.table import ATTACKS

    asked: grids.Attacks = kind
    if strength is not None:
        chosen = selection.kinds(kind)
        if len({ATTACKS[name].strength.axis for name in chosen}) > 1:
            raise UserError(
                f"--strength: got {strength!r} for {', '.join(chosen)}; legal: one unit for all attacks"
            )
        asked = dict.fromkeys(chosen, strength)
    strengths = grids.grids(asked, strength="--strength")
    grids.check(strengths, target=target, legacy=legacy, strength="--strength")
    if dumped():
        return
    attacks = ", ".join(strengths) if len(strengths) <= NAMED else f"{len(strengths)} attacks"
    level_count = sum(len(grid.levels) for grid in strengths.values())
    announcement = Announcement(
        f"{names(models)} x {attacks} ({count(level_count, 'level')}) x "
        + images(dataset, data_dir=data_dir, limit=limit)
        + (f" x {draws} draws" if draws > 1 else ""),
        device=device,
        out=out,
        dry_run=dry_run,
    )
    selection.parameters(list(strengths), changes, preset)
    options.check_baseline(baseline, models=models)

    from blrobust import api

    folder, failed = options.measured(
        api.evaluate,
        models,
        data=dataset,
        attacks=asked,
        space=LEGACY if legacy else None,
        parameters=changes,
        preset=preset,
        target=target,
        source=source,
        save_adversarials=save_adversarials,
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


def _show(results: "RunAnalysis") -> None:
    from blrobust.cli.results import print_attacks

    print_attacks(results)
