"""`blrobust paper cifar10`: all experiments of the paper on CIFAR-10, within a given time."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blrobust.cli import options, output
from blrobust.cli.announcement import Announcement
from blrobust.cli.config_file import config_options, dumped
from blrobust.cli.duration import Duration, words
from blrobust.cli.paper_rates import SEEDS
from blrobust.cli.presentation import drawing, open_in_browser
from blrobust.errors import FailedPartsError, UserError
from blrobust.terminal import echo

if TYPE_CHECKING:
    import torch

    from blrobust.data.datasets import Dataset
    from blrobust.experiments.budget import Plan
    from blrobust.experiments.execution import Setting
    from blrobust.experiments.step import Step

STAGES = ("train", "noise", "attacks", "mismatch", "report")
ON_A_CPU = 300.0  # seconds, the default of --budget
REPORT = 30.0  # seconds kept for the report, at most this share of the budget:
REPORT_SHARE = 0.2


@click.command("cifar10")
@config_options
@click.option(
    "--stage",
    type=click.Choice(STAGES),
    help="Do only one part. Only train and the default of all parts train models, the default only on a GPU.",
)
@click.option(
    "--budget",
    type=Duration(),
    help="Time for everything, such as 90s, 10m or 1h. What does not fit in is left out and named before the "
    "start: first training seeds, then images, then models at other band limits; none: no limit.  "
    "[default: 5m on a CPU; else none]",
)
@options.ARCH
@SEEDS
@options.DATASET
@options.DATA_DIR
@options.LIMIT
@options.DEVICE
@click.option(
    "--out",
    type=options.UserPath(),
    help="Folder for the runs and the report.  [default: runs/paper-cifar10-ARCH, also named by --limit and "
    "--seeds]",
)
@options.OPEN
@options.DRY_RUN
@output.JSON
@output.QUIET
def command(
    stage: str | None,
    budget: float | None,
    arch: str,
    seeds: int,
    dataset: str | None,
    data_dir: Path | None,
    limit: int | None,
    device: str,
    out: Path | None,
    open_report: bool,
    dry_run: bool,
) -> None:
    """Measure all experiments of the paper on CIFAR-10, and write one report beside the published series.

    Models without weights are trained on a GPU, and else named and left out. Every measurement is an ordinary
    run in a sub-folder of --out. The same command resumes what was interrupted; when the time is up, it stops
    and still writes the report.
    """
    start = time.perf_counter()
    if dumped():
        return

    from blrobust import deadline
    from blrobust.device import resolve
    from blrobust.evaluation.subjects import load_images
    from blrobust.experiments import cifar10
    from blrobust.experiments.band_limits import split_by_weights, without_weights
    from blrobust.experiments.budget import Plan
    from blrobust.experiments.execution import Setting
    from blrobust.experiments.planning import plan_steps
    from blrobust.user_paths import output_folder

    chosen = resolve(device)
    images = load_images(dataset, data_dir=data_dir, limit=limit)
    folder = _default_folder(arch, limit, seeds) if out is None else output_folder(out, "out")
    wanted = cifar10.names(arch=arch, seeds=seeds)
    found, missing = split_by_weights(wanted, arch=arch, dataset=images)
    trains = missing and (stage == "train" or (stage is None and _can_train(chosen, images, data_dir)))
    steps = cifar10.measurements(wanted if trains else found, arch=arch, dataset=images)
    if trains:
        steps.insert(0, cifar10.training(missing, arch=arch))
    lacks = without_weights(missing, arch=arch, dataset=images) if missing and not trains else ""
    if stage not in (None, "report"):
        steps = [step for step in steps if step.stage == stage]
    if not steps and stage != "train":
        raise UserError(f"--arch: got {arch}; {lacks}")
    if budget is None:
        is_slow = chosen.type == "cpu" and stage not in ("train", "report")
        budget = ON_A_CPU if is_slow else math.inf
    end = start + budget - (0 if stage == "train" else min(REPORT, REPORT_SHARE * budget))
    plan = Plan(tuple(steps), (), {})
    if stage != "report":
        plan = plan_steps(
            steps, out=folder, seconds=end - time.perf_counter(), essential=cifar10.TRAINED, arch=arch,
            dataset=images, device=chosen,
        )  # fmt: skip
    if dry_run:
        _print_plan(plan, lacks, budget=budget, folder=folder, is_dry=True)
        return
    if stage != "report":
        _print_plan(plan, lacks, budget=budget, folder=folder)
    failed: list[str] = []
    with deadline.until(end):
        try:
            for step in plan.steps if stage != "report" else ():
                failed += _take(step, Setting(arch, dataset, data_dir, device, folder), images)
        except deadline.DeadlineError:
            _print(f"the time is up during {step.name}; the same command continues there")
    if stage != "train":
        _report(folder, plan.steps, failed, open_report=open_report)


def _can_train(device: "torch.device", images: "Dataset", data_dir: Path | None) -> bool:
    """Return whether models are trained without being asked: on a GPU, if the training images are there."""
    from blrobust.data.registry import NAMES, data_folder
    from blrobust.models.model_names import trained_on

    source = NAMES.get(trained_on(images))
    return device.type == "cuda" and source is not None and source.found(data_folder(data_dir), "train")


def _default_folder(arch: str, limit: int | None, seeds: int) -> Path:
    from blrobust.runs import RUNS

    parts = ["paper-cifar10", arch, *([] if limit is None else [str(limit)])]
    return RUNS / "-".join([*parts, *([f"{seeds}seeds"] if seeds > 1 else [])])


def _print_plan(plan: "Plan", lacks: str, *, budget: float, folder: Path, is_dry: bool = False) -> None:
    """Print the steps with their predicted times, what is left out, and the models without weights.

    It is the only output of a dry run, on stdout.
    """
    if is_dry and output.is_json():
        steps = [asdict(step) | {"seconds": plan.seconds[step.name]} for step in plan.steps]
        output.print_json({"folder": folder, "steps": steps, "left_out": plan.left_out, "no_weights": lacks})
        return
    whole = "no time limit" if math.isinf(budget) else f"{words(budget)} for everything"
    lines = [f"plan: {whole}, {words(sum(plan.seconds.values()))} predicted without the report -> {folder}"]
    lines += [f"  {step.line()}: {words(plan.seconds[step.name])}" for step in plan.steps]
    lines += ["left out for the time:", *(f"  {line}" for line in plan.left_out)] if plan.left_out else []
    for line in [*lines, *([lacks] if lacks else [])]:
        if is_dry:
            echo(line)
        else:
            _print(line)


def _print(line: str) -> None:
    if not output.is_quiet():
        echo(line, err=True)


def _take(step: "Step", setting: "Setting", images: "Dataset") -> list[str]:
    """Measure or train the models of a step; return the messages of failed parts."""
    from blrobust.experiments import execution

    start = time.perf_counter()
    if step.function == "train":
        from blrobust.cli.paper_training import train

        train(
            step.models, arch=setting.arch, dataset=images, data_dir=setting.data_dir, device=setting.device
        )
        return []
    announcement = Announcement(step.line(), device=setting.device, out=setting.out / step.name)
    try:
        execution.measure(step, setting, announcement)
    except FailedPartsError as error:
        return error.lines
    _print(f"{step.name}: done in {words(time.perf_counter() - start)}")
    return []


def _report(folder: Path, steps: "Sequence[Step]", failed: list[str], *, open_report: bool) -> None:
    """Write the report of all measurements, and that of the recovery, which has a page of its own.

    Raises `FailedPartsError` with the lines `failed`.
    """
    from blrobust import api
    from blrobust.experiments.execution import with_results
    from blrobust.runs.folder import REPORT

    recoveries = with_results(folder, [step for step in steps if step.function == "recover"])
    measured = with_results(folder, [step for step in steps if step.function == "evaluate"])
    pages = {path / REPORT: [path] for path in recoveries}
    if measured:
        pages[folder / REPORT] = measured
    for page, runs in pages.items():
        results = api.open_run(runs[0]) if len(runs) == 1 else api.compare(*runs)
        with drawing(page):
            results.report(page)
    if failed:
        raise FailedPartsError(failed, folder)
    if not pages:
        raise UserError(f"--out: got {folder}, which has no results yet; legal: a folder with runs")
    if output.is_json():
        output.print_json({"folder": folder, "reports": list(pages), "runs": [*measured, *recoveries]})
    elif output.is_quiet():
        echo(str(folder))
    else:
        for page in pages:
            echo(f"report: {page}")
    if open_report:
        open_in_browser(list(pages)[-1])
