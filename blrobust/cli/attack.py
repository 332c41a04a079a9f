"""`blrobust attack`: accuracy under adversarial attack."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from blrobust.cli import options
from blrobust.cli.announcement import Announcement, count, images, names
from blrobust.cli.presentation import present
from blrobust.errors import FailedPartsError, UserError
from blrobust.perturbations import levels

if TYPE_CHECKING:
    from blrobust.analysis.run_analysis import RunAnalysis
    from blrobust.attacks.guard import Guard
    from blrobust.models.zoo import Model

NAMED = 3  # attacks that the announcement names; more are counted


@click.command("attack")
@click.option(
    "--kind",
    required=True,
    help="Attacks, comma-separated: names, patterns such as 'pgd*', or the suites suite:quick, "
    "suite:paper and suite:standard; 'blrobust attacks' lists them.",
)
@click.option(
    "--strength",
    help="Strengths: a:b (21 values), a:b:step or a,b,c, also fractions such as 8/255. 0 is always "
    "measured; 'blrobust attacks' gives the unit of each attack.  [default: the attack's own]",
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
    help="Steps and queries of the attacks. default: few, so that most attacks take seconds. paper: as many "
    "as in the attack's paper.",
)
@click.option(
    "--target",
    type=click.IntRange(min=0),
    help="Class that targeted attacks aim at. Images of this class are then not attacked: they count in the "
    "accuracy, but not in the columns median and success.  [default: the second most likely class of each "
    "image]",
)
@click.option(
    "--source",
    help="Transfer attack: craft the inputs on this model, then classify them with each of --models.",
)
@click.option(
    "--save-adversarials",
    is_flag=True,
    help="Store the successful adversarial inputs in the run folder (safetensors).",
)
@click.option(
    "--legacy",
    is_flag=True,
    help="Normalise and bound the images as in the code of Dziedzic et al. 2019 (CIFAR-10 only); the report "
    "then shows the published curves.",
)
@options.shared("fp32,fp16,fft50,fft85")
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
) -> None:
    """Measure accuracy under adversarial attack, strength by strength, and write a report.

    Every input that an attack returns is checked. If an input fails a check, its image counts as robust,
    and the reason is stored. The results go to a run folder. The same command resumes an interrupted run
    and measures nothing twice.
    """
    from blrobust.attacks.catalogue import selection
    from blrobust.attacks.catalogue.table import ATTACKS

    chosen = selection.kinds(kind)
    if strength is not None and len({ATTACKS[name].strength.axis for name in chosen}) > 1:
        raise UserError(
            f"--strength: got {strength!r} for {', '.join(chosen)}; legal: one unit for all attacks"
        )
    grids = chosen
    if strength is not None:
        grids = dict.fromkeys(chosen, levels.parse(strength, name="--strength"))
    if target is not None and not any(ATTACKS[name].targeted for name in chosen):
        legal = ", ".join(name for name, spec in ATTACKS.items() if spec.targeted)
        raise UserError(f"--target: got {target} for {', '.join(chosen)}; legal: targeted attacks ({legal})")
    for name, grid in grids.items():
        if not legacy and ATTACKS[name].norm == "Linf" and grid[-1] > 1:
            raise UserError(
                f"--strength: got {grid[-1]:g} for {name}; legal: 0 to 1, the largest change of a pixel; "
                f"for steps of 8 bits write {grid[-1]:g}/255"
            )
    if legacy and "uniform" in chosen:
        raise UserError(
            "--legacy: got the attack uniform; legal: 'blrobust noise --kind uniform --legacy', which has "
            "the published axis"
        )
    attacks = ", ".join(grids) if len(grids) <= NAMED else f"{len(grids)} attacks"
    announcement = Announcement(
        f"{names(models)} x {attacks} ({count(sum(map(len, grids.values())), 'level')}) x "
        + images(dataset, data_dir=data_dir, limit=limit)
        + (f" x {draws} draws" if draws > 1 else ""),
        device=device,
        out=out,
    )
    settings = selection.parameters(list(chosen), changes, preset)
    options.check_baseline(baseline, models=models)

    from blrobust.attacks.catalogue import parameter_rules
    from blrobust.attacks.guard import Guard
    from blrobust.evaluation import sweep
    from blrobust.models import zoo
    from blrobust.perturbations.input_space import PIXELS
    from blrobust.perturbations.paper_space import space as legacy_space

    subjects = options.load(
        models=models, arch=arch, dataset=dataset, data_dir=data_dir, limit=limit, device=device
    )
    if target is not None and target >= len(subjects.dataset.classes):
        raise UserError(f"--target: got {target}; legal: 0 to {len(subjects.dataset.classes) - 1}")
    shape = tuple(subjects.dataset.images.shape[1:])
    sizes = parameter_rules.Data(shape[1], shape[2], classes=len(subjects.dataset.classes))
    space = legacy_space(subjects.dataset) if legacy else PIXELS
    origin = None
    if source is not None:
        origin = zoo.load(_single_name(source), arch=arch, dataset=subjects.dataset, device=subjects.device)
    parts, guards = [], []
    for name, grid in grids.items():
        spec = ATTACKS[name]
        if strength is None:  # the default grid, as far as these images have pixels for it
            feasible = spec.feasible(grid, shape)
            grid = feasible if len(feasible) > 1 else grid
        spec.check_levels(grid, shape)
        parameter_rules.check_limits(name, settings[name], spec.budget(preset), sizes)
        guard = Guard(
            name, spec, seed=seed, space=space, parameters=settings[name], target=target,
            source=None if origin is None else origin.module,
        )  # fmt: skip
        parts.append(sweep.Part(guard, grid, {"parameters": settings[name]}, revision=spec.revision))
        guards.append(guard)
    _check_classes(guards, len(subjects.dataset.classes))
    further: dict[str, Any] = {"source": None if origin is None else _identity(origin), "target": target}
    failed: list[str] = []
    try:
        folder = sweep.execute(
            parts,
            command="attack",
            models=subjects.models,
            dataset=subjects.dataset,
            draws=draws,
            seed=seed,
            arch=arch,
            device=subjects.device,
            batch_size=batch_size,
            out=out,
            settings=further,
            source=origin,
            save_adversarials=save_adversarials,
            check_models=True,
            gradients=any(ATTACKS[name].gradients for name in grids),
            on_start=partial(announcement.locate, device=str(subjects.device), unit="cells"),
        )
    except FailedPartsError as error:
        if error.folder is None:
            raise
        folder, failed = error.folder, error.lines
    present(folder, _show, baseline=baseline, open_report=open_report, failed=failed)
    announcement.finish()


def _check_classes(guards: "Sequence[Guard]", classes: int) -> None:
    """Raise `UserError` if attacks need more than `classes` classes; the message names the other attacks."""
    problems: list[str] = []
    for guard in guards:
        try:
            guard.check_classes(classes)
        except UserError as error:
            problems.append(str(error))
    if problems:
        fitting = [guard.kind for guard in guards if not any(repr(guard.kind) in text for text in problems)]
        without = [f"without: --kind {','.join(fitting)}"] if fitting else []
        raise UserError("; ".join([*problems, *without]))


def _single_name(name: str) -> str:
    from blrobust.models import model_names

    found = model_names.parse_names(name)
    if len(found) != 1:
        raise UserError(f"--source: got {name!r}; legal: one model")
    return found[0]


def _identity(model: "Model") -> dict[str, str]:
    return {"label": model.label, "sha256": model.card.sha256}


def _show(results: "RunAnalysis") -> None:
    from blrobust.cli.results import print_attacks

    print_attacks(results)
