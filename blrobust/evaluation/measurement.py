"""The measurement of noise and of attacks, each in its own run folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blrobust import progress
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.errors import FailedPartsError, UserError
from blrobust.evaluation import sweep
from blrobust.evaluation.dry_run import dry_run
from blrobust.evaluation.observer import Observer
from blrobust.evaluation.one_at_a_time import LOCK
from blrobust.evaluation.subjects import ALONE, Subjects
from blrobust.models.global_settings import DEVICES
from blrobust.models.kept_state import kept_state
from blrobust.models.model import Model
from blrobust.models.module_state import unchanged_module
from blrobust.models.own_model import own_state_kept
from blrobust.perturbations.seeding import unchanged
from blrobust.runs.provenance import recorded_as
from blrobust.runs.record import FILE as RECORD


@contextmanager
def measuring(observer: Observer, *models: object, call: str | None) -> Iterator[None]:
    """Return a context for a measurement: it shows progress, records `call`, and restores modules.

    `call` is the text of the call from Python, or None for the command line. Each of `models` is of the type
    `subjects.Models`, or None. At the end, the state of the user's modules among `models` and of the global
    random generators on the CPU is restored. Within it, autocast and inference mode of the caller are off.
    While another thread measures, the context waits to begin.
    """
    with ExitStack() as stack:
        stack.enter_context(LOCK)
        stack.enter_context(torch.inference_mode(False))
        for kind in DEVICES:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(unchanged(torch.device("cpu")))
        stack.enter_context(progress.shown(observer.shows_progress))
        stack.enter_context(recorded_as(call))
        if observer.is_dry_run:
            stack.enter_context(dry_run(observer))
        modules = {id(module): (label, module) for given in models for label, module in _modules(given)}
        for label, module in modules.values():
            stack.enter_context(kept_state(module))
            stack.enter_context(unchanged_module(module, label))
        yield


def _modules(models: object) -> list[tuple[str, nn.Module]]:
    """Return the user's modules in an argument, with their labels; models given by name are left out."""
    named = models if isinstance(models, Mapping) else {ALONE: models}
    return [(str(label), member) for label, member in named.items() if isinstance(member, nn.Module)]


@contextmanager
def _states_kept(models: Sequence[Model]) -> Iterator[None]:
    """Restore the state of the user's modules at the end of the context, for the next run."""
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(own_state_kept(model.module))
        yield


def measure(
    parts: Mapping[str, list[sweep.Part]],
    subjects: Subjects,
    *,
    observer: Observer,
    source: Model | None,
    target: int | None,
    save_adversarials: bool,
    draws: int,
    seed: int,
    arch: str,
    batch_size: int | None,
    out: Path | None,
) -> list[Path]:
    """Measure the parts of each command, "noise" and "attack", and return the folders of their runs.

    With parts of both commands, the runs are in the subfolders "noise" and "attack" of `out`. If parts fail,
    all others are measured before `FailedPartsError` is raised.
    """
    alone = len(parts) == 1
    if not alone and out is not None and (out / RECORD).exists():
        raise UserError(f"out: got {out}, a run; legal: a folder for the runs of noise and attacks")
    folders: list[Path] = []
    failed: list[str] = []
    for command, found in parts.items():
        place = out if alone or out is None else out / command
        further: dict[str, Any] = {}
        if command == "attack":
            origin = None if source is None else {"label": source.label, "sha256": source.card.sha256}
            further = {
                "settings": {"source": origin, "target": target},
                "source": source,
                "save_adversarials": save_adversarials,
                "check_models": True,
                "gradients": any(ATTACKS[part.perturbation.kind].gradients for part in found),
            }
        try:
            with _states_kept([*subjects.models, *([] if source is None else [source])]):
                folder = sweep.execute(
                    found, command=command, models=subjects.models, dataset=subjects.dataset, draws=draws,
                    seed=seed, arch=arch, device=subjects.device, batch_size=batch_size, out=place,
                    on_start=partial(observer.begin, device=str(subjects.device)), **further,
                )  # fmt: skip
        except FailedPartsError as error:
            if alone:
                raise
            failed += error.lines
            if error.folder is not None:
                folders.append(error.folder)
        else:
            folders.append(folder)
    if failed:
        failure = FailedPartsError(failed)
        failure.folder = folders[0] if folders else None
        raise failure
    return folders
