"""``blrobust attack``: accuracy under attack."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from blrobust.cli import options
from blrobust.cli.presentation import present
from blrobust.errors import UserError
from blrobust.perturbations import levels

if TYPE_CHECKING:
    from blrobust.models.zoo import Model
    from blrobust.runs.run import Run


@click.command("attack")
@click.option(
    "--kind",
    required=True,
    help="Attacks, comma-separated: names, patterns such as 'pgd*', suite:quick, suite:paper, "
    "suite:standard; 'blrobust attacks' lists them.",
)
@click.option(
    "--strength",
    help="Strengths, as a:b (21 of them), a:b:step or a,b,c, also 8/255; 0 is always measured. Their "
    "units are the attack's: 'blrobust attacks'.  [default: the attack's own]",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Change parameters, as steps=100,restarts=5 or pgd-linf.steps=100; 'blrobust attacks "
    "--parameters' lists them.",
)
@click.option(
    "--preset",
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="Budgets for a look, or those of the literature.",
)
@click.option(
    "--target",
    type=click.IntRange(min=0),
    help="Class that targeted attacks aim at. Images of that class are left alone: they stay in the "
    "accuracy, and out of median and success.  [default: the second most likely one]",
)
@click.option("--source", help="Model that the attacks see; what they find is tried on all --models.")
@click.option(
    "--save-adversarials",
    is_flag=True,
    help="Keep the inputs that succeed, in the run's folder (safetensors).",
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
    changes: tuple[str, ...],
    preset: Literal["default", "paper"],
    target: int | None,
    source: str | None,
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
    *,
    save_adversarials: bool,
) -> None:
    """Measure accuracy under attack, strength by strength, and write a report.

    Every input that an attack returns is checked; one that fails counts as robust, with a reason.
    The run goes to a folder; the same command resumes it and never repeats what is done.
    """
    from blrobust.attacks.catalogue import selection
    from blrobust.attacks.catalogue.table import ATTACKS

    chosen = selection.kinds(kind)
    settings = selection.parameters(list(chosen), changes, preset)
    if strength is not None and len({ATTACKS[name].strength.axis for name in chosen}) > 1:
        raise UserError(
            f"--strength {strength!r} does not go with attacks whose strengths count different things: "
            f"{', '.join(chosen)}"
        )
    grids = chosen if strength is None else dict.fromkeys(chosen, levels.parse(strength))
    if target is not None and not any(ATTACKS[name].targeted for name in chosen):
        legal = ", ".join(name for name, spec in ATTACKS.items() if spec.targeted)
        raise UserError(f"--target {target} is for targeted attacks: {legal}; not for {', '.join(chosen)}")
    for name, grid in grids.items():
        if not legacy and ATTACKS[name].norm == "Linf" and grid[-1] > 1:
            raise UserError(
                f"strength {grid[-1]:g} of {name}: no pixel can change by more than 1; for steps of 8 bits "
                f"write {grid[-1]:g}/255"
            )

    if legacy and "uniform" in chosen:
        raise UserError(
            "--legacy: the published uniform noise has an axis of its own, that of "
            "'blrobust noise --kind uniform --legacy'"
        )

    from blrobust.attacks.guard import Guard
    from blrobust.evaluation import sweep
    from blrobust.models import zoo
    from blrobust.perturbations.input_space import PIXELS
    from blrobust.perturbations.paper_space import space as legacy_space

    subjects = options.load(
        models=models, arch=arch, dataset=dataset, data_dir=data_dir, limit=limit, device=device
    )
    if target is not None and target >= len(subjects.dataset.classes):
        raise UserError(f"--target {target}: legal: 0 to {len(subjects.dataset.classes) - 1}")
    shape = tuple(subjects.dataset.images.shape[1:])
    space = legacy_space(subjects.dataset) if legacy else PIXELS
    seen = None
    if source is not None:
        seen = zoo.load(_one(source), arch=arch, dataset=subjects.dataset, device=subjects.device)
    parts = []
    for name, grid in grids.items():
        spec = ATTACKS[name]
        if strength is None:  # the default grid, as far as these images have pixels for it
            feasible = spec.feasible(grid, shape)
            grid = feasible if len(feasible) > 1 else grid
        spec.check_levels(grid, shape)
        guard = Guard(
            name, spec, seed=seed, space=space, parameters=settings[name], target=target,
            source=None if seen is None else seen.module,
        )  # fmt: skip
        parts.append(sweep.Part(guard, grid, {"parameters": settings[name]}))
    asked: dict[str, Any] = {"source": None if seen is None else _identity(seen), "target": target}
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
        settings=asked,
        save_adversarials=save_adversarials,
        check_models=True,
    )
    present(folder, _show, open_report=open_report)


def _one(name: str) -> Any:
    from blrobust.models import model_names

    names = model_names.parse_names(name)
    if len(names) != 1:
        raise UserError(f"--source {name!r}: legal: one model")
    return names[0]


def _identity(model: "Model") -> dict[str, str]:
    return {"label": model.label, "sha256": model.card["sha256"]}


def _show(run: "Run") -> None:
    from blrobust.analysis import attack_results
    from blrobust.cli import tables

    tables.print_attacks(run, attack_results.models(run), attack_results.worst_case(run))
