"""The beginning of a run: its record, with the answers and flags of its models, and its folder."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blrobust.data.datasets import Dataset
from blrobust.device import describe
from blrobust.evaluation.probe import probe
from blrobust.models.zoo import Model
from blrobust.runs.configuration import MOST, Configuration, DatasetIdentity, ModelIdentity
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
    """Begin or resume a run in `out` (`Run.begin`), and return it with the entries of its probe (`probe`)."""
    probed = probe(models, dataset, device, source=source, gradients=gradients)
    record = new_record(
        config,
        dataset=dataset,
        cards=[Card(**asdict(model.card)) for model in models],
        device=describe(device),
        batch_size=min(batch_size, MOST),
        **probed,
    )
    return Run.begin(out, record, dataset.labels.numpy().astype(np.int16)), probed


def identities(models: Sequence[Model]) -> list[ModelIdentity]:
    """Return the models as a configuration has them."""
    return [ModelIdentity(model.label, model.card.sha256) for model in models]


def identity_of(dataset: Dataset) -> DatasetIdentity:
    """Return the data set as a configuration has it."""
    return DatasetIdentity(dataset.name, dataset.checksum, len(dataset))
