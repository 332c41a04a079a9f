"""A sweep: the measurement of every model at every level and draw, stored in a run folder.

A draw is a repetition with other random numbers. A cell is the set of outcomes of one model at one level in
one draw.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import convert, to_builtins
from safetensors.numpy import save

from blrobust import __version__, atomic_write
from blrobust.analysis.level_norm import level_norm
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.errors import UserError
from blrobust.evaluation import pictures
from blrobust.evaluation.cell_measurement import CellMeasurement
from blrobust.evaluation.probe import check_again, check_under_attack
from blrobust.evaluation.run_ends import begin, failed_cells, failure, identities, identity_of, restore
from blrobust.file_names import file_name, file_name_with_capitals
from blrobust.models.batches import bounded
from blrobust.models.zoo import Model
from blrobust.perturbations.base import Perturbation, block_size
from blrobust.perturbations.levels import format_level
from blrobust.progress import Meter
from blrobust.runs.configuration import Attack, Noise
from blrobust.runs.database import Key
from blrobust.runs.folder import ADVERSARIALS, REPORT
from blrobust.runs.interruption import resumable
from blrobust.runs.packed_arrays import Outcomes
from blrobust.runs.run import Run

MOST_CELLS = 1_000_000
IN_FLIGHT = 2  # blocks between copies of results to the CPU; doubled on a GPU, where copies synchronise


@dataclass(frozen=True)
class Part:
    """One kind of noise or attack in a sweep: its perturbation, levels, and further configuration entries."""

    perturbation: Perturbation
    levels: Sequence[float]
    settings: dict[str, Any] = field(default_factory=dict)
    revision: int = 1
    """The version of the kind's computation; an entry of the configuration if it is not 1."""

    @property
    def config(self) -> dict[str, Any]:
        """The entry of the kind in the run's configuration, as a JSON dict."""
        revision = {} if self.revision == 1 else {"revision": self.revision}
        return {"levels": list(self.levels), **self.settings, **revision}


def execute(
    parts: Sequence[Part],
    *,
    command: str,
    models: Sequence[Model],
    dataset: Dataset,
    draws: int,
    seed: int,
    arch: str,
    device: torch.device,
    batch_size: int | None = None,
    out: Path | None = None,
    settings: dict[str, Any] | None = None,
    source: Model | None = None,
    save_adversarials: bool = False,
    check_models: bool = False,
    gradients: bool = False,
    on_start: Callable[[Path, int, int], None] = lambda folder, done, total: None,
) -> Path:
    """Measure the cells of a sweep that are not stored yet, write results.csv, and return the run folder.

    The models are on `device` and get blocks of images (batches of one size), or `batch_size` images if that
    is less than a block. `batch_size` does not change the random numbers. `settings` are further entries of
    the configuration. `source` is the model on which attacks run, by default each evaluated model itself.
    The logits of the models for a few inputs and their flags (`evaluation.probe`) are written to run.json.
    With `gradients`, so are gradients of the models on which attacks run, and with `check_models` the flags
    of `attacks.model_checks`. With `save_adversarials`, adversarial inputs are stored too. `out` is the run
    folder, by default runs/HASH (`Run.begin`). `on_start` is called with the folder, the number of stored
    cells and the number of all cells. A finished run is not changed.

    Raises `UserError` for too many cells, if the folder cannot be used for this run, or if it has cells
    without the inputs that `save_adversarials` stores. If some models fail at some kinds, all other cells are
    measured before `FailedPartsError` is raised.
    """
    cells = len(models) * draws * sum(len(part.levels) for part in parts)
    if cells > MOST_CELLS:
        raise UserError(
            f"models x levels x draws: got {cells:,} cells; legal: at most {MOST_CELLS:,}, in several runs"
        )
    block = block_size(dataset.images.shape[1:], device)
    if batch_size is not None and batch_size < block:
        models = [bounded(model, batch_size) for model in models]
        source = None if source is None else bounded(source, batch_size)
    batch_size = batch_size or block * IN_FLIGHT * (2 if device.type == "cuda" else 1)
    plain = {
        "version": __version__,
        "command": command,
        "kinds": {part.perturbation.kind: part.config for part in parts},
        "space": parts[0].perturbation.space,
        "draws": draws,
        "seed": seed,
        "arch": arch,
        "models": to_builtins(identities(models)),
        "dataset": to_builtins(identity_of(dataset)),
        "device": device.type,
        "block": block,
        **(settings or {}),
    }
    config: Noise | Attack = convert(plain, Noise | Attack)
    run, answers = begin(
        config,
        models=models,
        dataset=dataset,
        device=device,
        batch_size=batch_size,
        out=out,
        source=source,
        gradients=gradients,
    )
    unit = "levels" if len(models) == len(parts) == draws == 1 else "cells"
    with run:
        path = run.path
        if save_adversarials:
            _check_adversarials(run)
        on_start(path, len(run.done()), run.cells)
        if run.finished:
            restore(RunAnalysis(run))
            return path
        with resumable(path, lambda: f"{len(run.done())} of {run.cells} {unit}"):
            run.check()
            (path / REPORT).unlink(missing_ok=True)  # the report of an earlier command, in which kinds failed
            with full_precision():
                if check_models:
                    check_under_attack(models, dataset, device, run.record.flags, source=source)
                failed: dict[str, dict[str, str]] = {}
                for part in parts:
                    failed[part.perturbation.kind] = run_cells(
                        run, part.perturbation, models, dataset, device=device, batch_size=batch_size,
                        adversarials=path / ADVERSARIALS if save_adversarials else None,
                    )  # fmt: skip
            check_again(models, dataset, device, answers, run.record.flags, source=source)
            if any(failed.values()):
                run.save_record()
                RunAnalysis(run).write_csv()
                raise failed_cells(failed, len(models), path)
            strips = [pictures.take(run, part.perturbation, dataset, device) for part in parts]
            run.add_pictures([picture for strip in strips for picture in strip])
            RunAnalysis(run).write_csv()
            run.finish()
    return path


def run_cells(
    run: Run,
    perturbation: Perturbation,
    models: Sequence[Model],
    dataset: Dataset,
    *,
    device: torch.device,
    batch_size: int,
    adversarials: Path | None = None,
) -> dict[str, str]:
    """Measure the cells of `perturbation` that are not stored yet; store each as soon as it is finished.

    Draws are the outer loop, so that only the random numbers of one draw are in memory. If one search serves
    all levels, the levels are measured together. Adversarial inputs are written to the folder
    `adversarials`, unless it is None. After a model fails or does not fit into memory, its remaining cells
    are left out. Returns, by label, a text with the level and the error for each model that failed.
    """
    kind, done, levels_of_kind = perturbation.kind, run.done(), run.levels(perturbation.kind)
    one_search, norm = perturbation.one_search_for_all_levels, level_norm(kind, perturbation.space)
    # Level 0 needs no search: it is one pass of clean images, and its time is measured alone.
    search_levels = [level for level in levels_of_kind if one_search and level > 0]
    groups: list[tuple[Model, tuple[float, ...], int]] = []
    for draw in range(run.draws):
        for model in models:
            todo = [level for level in levels_of_kind if (model.label, kind, level, draw) not in done]
            groups += [(model, (level,), draw) for level in todo if level not in search_levels]
            if together := tuple(level for level in todo if level in search_levels):
                groups.append((model, together, draw))
    measure = CellMeasurement(
        perturbation,
        dataset,
        seed=run.config.seed,
        device=device,
        batch_size=batch_size,
        keep=adversarials is not None,
    )
    failed: dict[str, str] = {}
    with _meter(run, perturbation) as meter:
        for model, levels, draw in groups:
            if model.label in failed:
                continue
            name = model.label if run.draws == 1 else f"{model.label}, draw {draw}"
            shown = [format_level(level, norm) for level in levels]
            meter.begin(name, images=len(dataset), kind=kind, levels=shown)
            start = time.perf_counter()
            try:
                results = measure(model, levels=levels, draw=draw, meter=meter)
            except (torch.OutOfMemoryError, UserError) as error:
                problem = failure(error, device).removeprefix(f"model {model.label!r} ")
                failed[model.label] = f"{', '.join(shown)}: {problem}"
                meter.fail()
                continue
            seconds = (time.perf_counter() - start) / len(levels)
            for level, outcomes in zip(levels, results, strict=True):
                cell = (model.label, kind, level, draw)
                if adversarials is not None:
                    _save(adversarials, cell, outcomes, check=run.check)
                # The passes of a search are divided among all its levels, including those stored before.
                shared = level in search_levels
                index, count = (search_levels.index(level), len(search_levels)) if shared else (0, 1)
                run.add(
                    cell,
                    outcomes,
                    forwards=_share(_passes(outcomes, "forwards", len(dataset)), index, count),
                    backwards=_share(_passes(outcomes, "backwards", 0), index, count),
                    seconds=seconds,
                )
    return failed


def _meter(run: Run, perturbation: Perturbation) -> Meter:
    """Return a meter of the progress over the cells of all kinds; it shows the passes of `perturbation`."""
    n = len(run.labels)
    return Meter(
        images=run.cells * n,
        done=len(run.done()) * n,
        kinds=run.kinds,
        passes=lambda: perturbation.passes,
    )


def _passes(outcomes: Outcomes, name: str, otherwise: int) -> int:
    return int(outcomes[name].sum()) if name in outcomes else otherwise


def _share(total: int, index: int, count: int) -> int:
    """Return share `index` (from 0) of `total`, divided into `count` almost equal whole numbers."""
    return total * (index + 1) // count - total * index // count


def _adversarial_file(folder: Path, cell: Key, name: Callable[[str], str] = file_name) -> Path:
    model, kind, level, draw = cell
    # Levels have at most 12 significant digits, so that different levels have different files.
    return folder / kind / name(model) / f"{level:.12g}-{draw}.safetensors"


def _save(folder: Path, cell: Key, outcomes: Outcomes, *, check: Callable[[], None]) -> None:
    """Write the inputs of successful attacks, float32 (k, C, H, W) in [0, 1], and their indices (k,).

    The indices are those of the images in the data set. The entry `pixels` is removed from `outcomes`. The
    metadata of the file contain the label of the model, because the file name of a long label is cut.
    `check` is the method of the run.
    """
    check()
    pixels = outcomes.pop("pixels")
    rows = np.flatnonzero(outcomes["success"])
    path = _adversarial_file(folder, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"pixels": np.ascontiguousarray(pixels[rows]), "indices": rows.astype(np.int64)}
    atomic_write.write_bytes(path, save(arrays, {"model": cell[0]}), check=check)


def _check_adversarials(run: Run) -> None:
    """Raise `UserError` if a stored cell, which is not measured again, has no saved adversarial inputs.

    Raises it for a link in the place of a folder too, since its target would get files of the same names.
    """
    top = run.path / ADVERSARIALS
    for folder in (top, *top.glob("*"), *top.glob("*/*")):
        if folder.is_symlink() and not run.finished:
            raise UserError(f"save_adversarials: got {folder}, which is a link; legal: a folder, or none")
    for cell in sorted(run.done()):
        names = (file_name, file_name_with_capitals)  # the second for folders of early builds
        if not any(_adversarial_file(run.path / ADVERSARIALS, cell, name).exists() for name in names):
            raise UserError(
                f"save_adversarials: got a run that was begun without it ({run.path} has no inputs of "
                f"{cell[0]!r} at {cell[1]} {cell[2]:g}); legal: another folder"
            )
