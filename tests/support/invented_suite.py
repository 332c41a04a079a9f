"""Run folders of several attacks with invented outcomes, no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from blrobust.runs.run import Run
from support import invented


def suite(
    path: Path,
    kinds: Mapping[str, Sequence[float]],
    halves: Mapping[str, float],
    *,
    n: int = 200,
    dataset: str = "cifar10",
    classes: list[str] | None = None,
    note: str | None = None,
) -> Path:
    """Write a run of attacks in pixel space: `kinds` are their levels, from 0.

    `halves` maps each model to the share of the last level at which it has lost half of its accuracy.
    """
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 10, n).astype(np.int16)
    hardness = generator.random(n)
    config = invented.configuration(
        halves,
        n=n,
        command="attack",
        kinds={kind: {"levels": list(levels), "parameters": {}} for kind, levels in kinds.items()},
        space="pixel",
        source=None,
        target=None,
        dataset={"name": dataset, "checksum": "cd" * 32, "n": n},
    )
    record = invented.record(config, classes=classes or invented.CLASSES, note=note)
    with Run.create_or_resume(path, record, labels) as made:
        for kind, levels in kinds.items():
            for model, half in halves.items():
                for level in levels:
                    accuracy = 0.9 * 0.5 ** (level / levels[-1] / half)
                    found = invented.predictions(labels, accuracy, hardness=hardness, generator=generator)
                    broken = found != labels
                    outcome = {
                        "prediction": found,
                        "success": broken,
                        "rounded": broken,
                        "reason": np.where(broken, 0, 1).astype(np.uint8),
                        "forwards": np.full(n, 5, np.int32),
                    }
                    made.add((model, kind, level, 0), outcome, forwards=n, backwards=n, seconds=0.5)
            made.add_pictures(invented.pictures(kind, levels, int(labels[0]), None))
        made.finish(end="2025-01-02T03:05:06+00:00")
    return path
