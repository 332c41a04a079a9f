"""Run folders of a heat map and of a recovery with invented outcomes, no network."""

from pathlib import Path
from typing import Any

import numpy as np
from msgspec import convert

from blrobust.runs.configuration import Configuration
from blrobust.runs.new_cell import NewCell
from blrobust.runs.run import Run
from support import invented

LABELS = np.array([0, 1, 2, 1, 0], np.int16)
SWEEP = ("kinds", "space", "draws", "block")  # entries that only sweeps have


def configuration(command: str, labels: str, **further: Any) -> Configuration:
    """Return the configuration of a heat map or a recovery on five images; a label is a letter."""
    plain = invented.configuration(labels, n=len(LABELS)).encode()
    for key in SWEEP:
        del plain[key]
    found: Configuration = convert(plain | {"command": command} | further, Configuration)
    return found


def heatmap(path: Path, *, cells: int | None = None) -> Path:
    """Write a map of 3 x 3 frequencies of two models; `cells` leaves it unfinished."""
    config = configuration("heatmap", "ab", size=3, norm=4.0, shape=[3, 8, 8])
    return _write(path, config, cells)


def recovery(path: Path, *, cells: int | None = None) -> Path:
    """Write the recovery by a low-pass and another network; `cells` leaves it unfinished."""
    channels = [["low-pass", "low-pass 0.5", 0.5], ["network", "b", 0.0]]
    config = configuration(
        "recover", "ab", source="a", kinds={"fgsm": 0.25, "deepfool-l2": None}, channels=channels
    )
    return _write(path, config, cells)


def _write(path: Path, config: Configuration, cells: int | None) -> Path:
    generator = np.random.default_rng(0)
    record = invented.record(config, cards=[invented.card(model.label) for model in config.models])
    keys = [(s, kind, level, 0) for s in config.subjects for kind, (level,) in config.grids.items()]
    with Run.create_or_resume(path, record, LABELS) as run:
        run.add_all(
            NewCell(key, outcomes(config.command, key[0], generator), forwards=5, backwards=0, seconds=0.5)
            for key in keys[:cells]
        )
        if cells is None:
            run.finish(end="2025-01-02T03:05:06+00:00")
    return path


def outcomes(command: str, subject: str, generator: np.random.Generator) -> dict[str, Any]:
    """Return the arrays of a cell; in a recovery, the source is "a"."""
    n = len(LABELS)
    found: dict[str, Any] = {"prediction": np.where(generator.random(n) < 0.6, LABELS, 2).astype(np.int16)}
    if command == "recover":
        found["no_gradients"] = np.zeros(n, np.bool_)
        if subject == "a":
            return found | {"success": generator.random(n) < 0.8}
        found["clean_prediction"] = LABELS
        found["broken"] = generator.random(n) < 0.5
        found["distance"], found["adaptive_distance"] = generator.random((2, n), dtype=np.float32)
    return found
