"""Run folders with invented outcomes: known curves, no network."""

import io
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import convert
from numpy.typing import NDArray
from PIL import Image

from blrobust.runs.configuration import Configuration
from blrobust.runs.database import Picture
from blrobust.runs.record import FORMAT, Card, DatasetFacts, Record, Session, digest
from blrobust.runs.run import Run

CLASSES = ["plane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
COMPRESSION = {"fft50": (0.48, 0.515), "fft85": (0.84, 0.86)}


def card(label: str, **changes: Any) -> Card:
    """Return a model's entry in a run's record."""
    nominal, effective = COMPRESSION.get(label, (0.0, 0.0))
    facts: dict[str, Any] = {
        "label": label,
        "arch": "resnet20",
        "nominal_compression": nominal,
        "effective_compression": effective,
        "fft_size": "paper",
        "parameters": 272_474,
        "seed": 0,
        "test_accuracy": 0.9251,
        "sha256": "ab" * 32,
    }
    return Card(**facts | changes)


def trained(labels: Iterable[str], **changes: Any) -> dict[str, dict[str, Any]]:
    """Return changes of cards for models of the suite: their checkpoints, channels, compressions, seeds.

    Only such models are seeds of one model; `changes` are the same for all.
    """
    found = {}
    for label in labels:
        *channels, model = label.split("+")
        model, _, percent = model.partition("@")
        name, _, seed = model.partition("-seed")
        nominal, effective = COMPRESSION.get(name.removesuffix("-compact"), (0.0, 0.0))
        found[label] = {
            "dataset": "cifar10",
            "checkpoint": f"weights/cifar10-resnet20-{model}.safetensors",
            "channels": tuple(channels),
            "nominal_compression": nominal,
            "effective_compression": effective,
            "seed": int(seed or 0),
            "tested_at": int(percent) if percent else None,
        } | changes
    return found


def configuration(labels: Iterable[str], *, n: int, **changes: Any) -> Configuration:
    """Return the configuration of a run of the models `labels` on `n` images, with `changes`."""
    plain = {
        "version": "0.1.0",
        "command": "noise",
        "kinds": {"gaussian": {"levels": [0.0, 0.5]}},
        "space": "normalized",
        "draws": 1,
        "seed": 0,
        "arch": "resnet20",
        "models": [{"label": label, "sha256": "ab" * 32} for label in labels],
        "dataset": {"name": "cifar10", "checksum": "cd" * 32, "n": n},
        "device": "cpu",
        "block": 100,
    }
    found: Configuration = convert(plain | changes, Configuration)
    return found


def record(config: Configuration, *, cards: Sequence[Card] | None = None, **data: Any) -> Record:
    """Return the record of a run; `data` are changes of the facts about the data set."""
    session = Session(
        started="2025-01-02T03:04:05+00:00",
        command_line=f"blrobust {config.command} --models {','.join(m.label for m in config.models)}",
        device="cpu, 2 threads",
        batch_size=200,
        versions={"python": "3.11.7", "torch": "2.15.0"},
        git=None,
    )
    facts: dict[str, Any] = {
        "name": config.dataset.name,
        "split": "test",
        "n": config.dataset.n,
        "checksum": config.dataset.checksum,
        "note": None,
        "classes": CLASSES,
        "mean": [0.4914, 0.4822, 0.4465],
        "std": [0.2023, 0.1994, 0.2010],
    }
    return Record(
        format=FORMAT,
        id=secrets.token_hex(16),
        config=config,
        hash=digest(config.encode()),
        command_line=session.command_line,
        versions=session.versions,
        git=None,
        device=session.device,
        dataset=DatasetFacts(**facts | data),
        models=list(cards or [card(model.label) for model in config.models]),
        started=session.started,
        finished=None,
        sessions=[session],
    )


def predictions(
    labels: NDArray[np.int16],
    accuracy: float,
    *,
    hardness: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.int16]:
    """Return classes: right where an image's hardness, with some luck in each draw, is below the accuracy."""
    luck = generator.random(len(labels))
    score = np.where(generator.random(len(labels)) < 0.7, hardness, luck)
    wrong = (labels + 1 + generator.integers(0, 9, len(labels))) % 10
    return np.where(score < accuracy, labels, wrong).astype(np.int16)


def exact(labels: NDArray[np.int16], accuracy: float) -> NDArray[np.int16]:
    """Return classes: right for the first images, so that differences between curves are exact."""
    found: NDArray[np.int16] = np.where(
        np.arange(len(labels)) < round(accuracy * len(labels)), labels, (labels + 1) % 10
    )
    return found


def run(
    path: Path,
    curves: dict[str, list[float]],
    levels: list[float],
    *,
    n: int = 200,
    draws: int = 1,
    kind: str = "gaussian",
    space: str = "normalized",
    dataset: str = "cifar10",
    note: str | None = None,
    cells: int | None = None,
    classes: list[str] | None = None,
    image: NDArray[np.float64] | None = None,
    checks: bool = False,
    is_exact: bool = False,
    cards: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Write a run whose models have the given accuracies by level; ``cells`` leaves it unfinished.

    ``checks`` adds an attack's: one sample of each reason to reject, one not attacked, four
    adversarial, of which one survives rounding. ``is_exact`` makes the first images right, without
    luck, and ``cards`` changes cards by label.
    """
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 10, n).astype(np.int16)
    hardness = generator.random(n)
    config = configuration(
        curves,
        n=n,
        kinds={kind: {"levels": [float(level) for level in levels]}},
        space=space,
        draws=draws,
        dataset={"name": dataset, "checksum": "cd" * 32, "n": n},
    )
    whole = record(
        config,
        cards=[card(label, **(cards or {}).get(label, {})) for label in curves],
        classes=classes or CLASSES,
        note=note,
    )
    keys = [(model, level, draw) for draw in range(draws) for model in curves for level in levels]
    with Run.create_or_resume(path, whole, labels) as made:
        for model, level, draw in keys[:cells]:
            accuracy = curves[model][list(levels).index(level)]
            found = (
                exact(labels, accuracy).astype(np.int16)
                if is_exact
                else predictions(labels, accuracy, hardness=hardness, generator=generator)
            )
            outcome: dict[str, Any] = {"prediction": found}
            if checks:
                outcome["reason"] = np.full(n, 1, np.uint8)
                outcome["reason"][:9] = [0, 0, 0, 0, 2, 3, 4, 5, 6]
                outcome["success"] = outcome["reason"] == 0
                outcome["rounded"] = np.arange(n) == 0
            made.add((model, kind, float(level), draw), outcome, forwards=n, backwards=0, seconds=0.5)
        if cells is None:
            made.add_pictures(pictures(kind, levels, int(labels[0]), image))
            made.finish(end="2025-01-02T03:05:06+00:00")
    return path


def pictures(
    kind: str, levels: Sequence[float], label: int, image: NDArray[np.float64] | None
) -> list[Picture]:
    """Return one image under up to six of the levels."""
    clean = np.full((8, 8, 3), 0.5) if image is None else image
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    strip = []
    for place in np.linspace(0, len(levels) - 1, min(6, len(levels))).round().astype(int):
        pixels = np.clip(clean + 0.2 * float(levels[place]) * noise, 0, 1)
        file = io.BytesIO()
        Image.fromarray((255 * pixels).round().astype(np.uint8)).save(file, "PNG")
        strip.append(Picture(kind, float(levels[place]), 0, label, file.getvalue()))
    return strip
