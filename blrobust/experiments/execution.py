"""Execution of the steps of an experiment by the functions that the commands of `blrobust` call."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from blrobust import api, frequency
from blrobust.evaluation.observer import Observer
from blrobust.experiments.step import Step
from blrobust.results import Results
from blrobust.runs.record import FILE, Record
from blrobust.runs.run import Run


@dataclass(frozen=True)
class Setting:
    """The arguments that all steps have in common; each run is in a sub-folder of `out`."""

    arch: str
    dataset: str | None
    data_dir: Path | None
    device: str
    out: Path


def measure(step: Step, setting: Setting, observer: Observer) -> Path:
    """Measure a step, or resume it, and return its run folder.

    Raises the errors of `api.evaluate` and `frequency.recover`, and `DeadlineError`.
    """
    models = list(step.models)
    found: Results
    if step.function == "recover":
        found = frequency.recover(
            models[0], networks=models[1:], data=setting.dataset, arch=setting.arch, limit=step.images,
            data_dir=setting.data_dir, device=setting.device, out=setting.out / step.name, progress=observer,
        )  # fmt: skip
    else:
        found = api.evaluate(
            models, **step.options, data=setting.dataset, arch=setting.arch, limit=step.images,
            data_dir=setting.data_dir, device=setting.device, out=setting.out / step.name, progress=observer,
        )  # fmt: skip
    return found.folder


def as_begun(step: Step, out: Path) -> tuple[Step, bool] | None:
    """Return the step with the models and images of its run in `out`, and whether the run is finished.

    The result is None if there is no run.
    """
    folder = out / step.name
    if not (folder / FILE).is_file():
        return None
    record = Record.read(folder)
    models = tuple(card.label for card in record.models)
    return replace(step, models=models, images=record.dataset.n), record.finished is not None


def with_results(out: Path, steps: Iterable[Step]) -> list[Path]:
    """Return the folders of the runs in `out` that have results, in the order of their `steps`."""
    folders = [out / step.name for step in steps if (out / step.name / FILE).is_file()]
    return [folder for folder in folders if _has_results(folder)]


def _has_results(folder: Path) -> bool:
    with Run.open(folder) as run:
        return bool(run.done())
