"""The beginning and the end of a run: its folder, and the facts about its models in its record.

The record has the answers of each model (its logits for a few fixed inputs) and its flags (reasons to doubt
its results).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blrobust.analysis import statistics
from blrobust.analysis.heatmap import HeatmapAnalysis
from blrobust.analysis.recovery import RecoveryAnalysis
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.data.datasets import Dataset
from blrobust.device import describe
from blrobust.errors import FailedPartsError, UserError, message
from blrobust.evaluation.dry_run import end_dry_run
from blrobust.evaluation.probe import check_again, find_flags, probe
from blrobust.models.zoo import Model
from blrobust.regular_file import problem_of
from blrobust.runs.configuration import MOST, Configuration, DatasetIdentity, ModelIdentity
from blrobust.runs.folder import RESULTS
from blrobust.runs.interruption import resumable
from blrobust.runs.provenance import new_record
from blrobust.runs.record import Card
from blrobust.runs.run import Run


def begin(
    config: Configuration,
    *,
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    batch_size: int,
    out: Path | None,
    source: Model | None = None,
    gradients: bool = False,
) -> tuple[Run, dict[str, Any]]:
    """Begin or resume a run in `out`; return the run and the answers of its models.

    Answers are logits for a few fixed inputs (`probe`). `source` is the model on which attacks run; with
    `gradients`, the answers include gradients. If `out` is None, `Run.begin` chooses the folder. If the run
    has no flags yet, `find_flags` computes them. In a dry run this function does not return: `end_dry_run`
    ends the process before a folder is created. Raises `UserError` if the folder cannot be used or a model
    fails.
    """
    answers = probe(models, dataset, device, source=source, gradients=gradients)
    record = new_record(
        config,
        dataset=dataset,
        cards=[Card(**asdict(model.card)) for model in models],
        device=describe(device),
        batch_size=min(batch_size, MOST),
        answers=answers,
    )
    end_dry_run(out, record)
    run = Run.begin(out, record, dataset.labels.numpy().astype(np.int16))
    if run.finished:
        return run, answers
    try:
        statistics.import_libraries()
        if not run.record.flags:
            with resumable(run.path, lambda: f"{len(run.done())} of {run.cells} cells"):
                run.record.flags = find_flags(models, dataset, device, answers, source=source)
                run.save_record()
    except BaseException:
        run.close()
        raise
    return run, answers


def end(
    results: HeatmapAnalysis | RecoveryAnalysis,
    answers: Mapping[str, Any],
    *,
    models: Sequence[Model],
    dataset: Dataset,
    device: torch.device,
    failed: Sequence[str],
) -> None:
    """Write the flags of the models and results.csv, and finish the run if no part of it has failed.

    `failed` are the error messages of parts that failed. `answers` are those that `begin` returned;
    `check_again` compares the present logits of the models with them.
    """
    run = results.run
    check_again(models, dataset, device, answers, run.record.flags)
    if failed:
        run.save_record()
    results.write_csv()
    if not failed:
        run.finish()


def restore(results: RunAnalysis | HeatmapAnalysis | RecoveryAnalysis) -> None:
    """Write results.csv of a finished run again if it was removed, or if a link or a pipe is in its place."""
    table = results.run.path / RESULTS
    if table.is_symlink() or problem_of(table):
        results.write_csv()


def failed_cells(failed: Mapping[str, Mapping[str, str]], models: int, folder: Path) -> FailedPartsError:
    """Return the error for the models that failed.

    `failed` has the error messages, which name the level, by kind of noise or attack and by label. `models`
    is the number of all models. If all of them failed at every kind, the error has no `folder`.
    """
    lines = {kind: list(_lines(kind, errors)) for kind, errors in failed.items()}
    if all(len(errors) == models for errors in failed.values()):
        return FailedPartsError([line for found in lines.values() for line in found])
    named = [f"{kind} failed: {line}" for kind, found in lines.items() for line in found]
    return FailedPartsError(named, folder)


def _lines(kind: str, errors: Mapping[str, str]) -> Iterator[str]:
    """Yield one line of text for each different error of a kind, with the models for which it occurred."""
    models: dict[str, list[str]] = {}
    for label, error in errors.items():
        models.setdefault(error, []).append(repr(label))
    for error, labels in models.items():
        yield f"{'model' if len(labels) == 1 else 'models'} {', '.join(labels)} at {kind} {error}"


def failure(error: torch.OutOfMemoryError | UserError, device: torch.device) -> str:
    """Return the error message for a part of a run that failed or did not fit into the device's memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return f"{device} has too little free memory, choose a smaller batch size: {message(error)}"
    return message(error)


def identities(models: Sequence[Model]) -> list[ModelIdentity]:
    """Return the labels and checksums of models, for the configuration of a run."""
    return [ModelIdentity(model.label, model.card.sha256) for model in models]


def identity_of(dataset: Dataset) -> DatasetIdentity:
    """Return the name, the checksum and the size of a data set, for the configuration of a run."""
    return DatasetIdentity(dataset.name, dataset.checksum, len(dataset))
