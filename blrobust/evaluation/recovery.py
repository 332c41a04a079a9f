"""How many labels come back when adversarial inputs pass a channel that their maker did not know?

Dziedzic et al. 2019, section 6.2.12: inputs crafted on one network, then low-passed, or given to a
band-limited network. And the control: the same when the adversary knows of the channel.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from blrobust import __version__, atomic_write
from blrobust.analysis.statistics import wilson
from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.data.datasets import Dataset
from blrobust.device import describe, full_precision
from blrobust.errors import UserError
from blrobust.models.channels import Channel
from blrobust.models.zoo import Model
from blrobust.perturbations import levels
from blrobust.perturbations.base import block_size, predict
from blrobust.progress import Meter
from blrobust.runs.measurement import Measurement
from blrobust.runs.provenance import new_record

RESULTS, REPORT = "recovery.csv", "recovery.html"


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise ``UserError`` unless every kind is an attack of the table that searches for a failure."""
    legal = [name for name, spec in ATTACKS.items() if spec.is_search]
    for kind in kinds:
        if kind not in legal:
            raise UserError(f"attack {kind!r} cannot be recovered from; legal: {', '.join(legal)}")


def level_of(spec: AttackSpec, given: float | None) -> float:
    """The strength of an attack: without bound for one that searches for the smallest perturbation.

    Otherwise ``given``, or the third of the table's default levels: 2/255 in Linf, 0.25 in L2.
    """
    if spec.minimal:
        return math.inf
    return levels.parse(spec.grid)[2] if given is None else given


def craft(
    guard: Guard, network: torch.nn.Module, pixels: Tensor, labels: Tensor, *, level: float
) -> tuple[Tensor, Tensor]:
    """Adversarial pixels (n, C, H, W), the images themselves where none was found, and bool (n,): found."""
    adversarial, found = [], []
    size = block_size(pixels.shape[1:], pixels.device)
    for first in range(0, len(labels), size):
        rows = slice(first, min(first + size, len(labels)))
        (result,) = guard.measure(
            network,
            pixels[rows],
            labels[rows],
            levels=[level],
            draw=0,
            samples=range(rows.start, rows.stop),
            keep=True,
        )
        adversarial.append(result["pixels"])
        found.append(result["success"])
    return torch.cat(adversarial), torch.cat(found)


def l2_norms(difference: Tensor) -> Tensor:
    """L2 length (n,) over all pixels and channels, in pixel units of [0, 1]."""
    result: Tensor = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    return result


@torch.inference_mode()
def predictions(network: torch.nn.Module, pixels: Tensor) -> Tensor:
    """Predicted classes (n,), block by block."""
    return torch.cat([predict(network, block) for block in _blocks(pixels)])


def _blocks(pixels: Tensor) -> tuple[Tensor, ...]:
    return torch.split(pixels, block_size(pixels.shape[1:], pixels.device))


def recover(
    channel: Channel,
    guard: Guard,
    pixels: Tensor,
    labels: Tensor,
    adversarial: Tensor,
    fooled: Tensor,
    *,
    level: float,
) -> dict[str, Any]:
    """What one channel wins back, as counts among the ``fooled`` images (n,).

    ``recovered``: right on the adversarial input through the channel; ``clean``: right on the image
    itself through the channel, the most that could come back; ``adaptive``: still right when the
    attack runs through channel and network. ``distortion`` is the mean L2 distance of what the
    network sees to the image, ``adaptive_l2`` that of the inputs which such an attack finds.
    """
    whole = channel.whole
    right = predictions(whole, adversarial) == labels
    clean = predictions(whole, pixels) == labels
    adaptive, success = craft(guard, whole, pixels, labels, level=level)
    with torch.inference_mode():
        seen = torch.cat([channel.transform(block) for block in _blocks(adversarial)])
    hit = success & fooled
    return {
        "recovered": int((right & fooled).sum()),
        "clean": int((clean & fooled).sum()),
        "adaptive": int((clean & fooled & ~success).sum()),
        "distortion": _mean(l2_norms(seen - pixels)[fooled]),
        "adaptive_l2": _mean(l2_norms(adaptive - pixels)[hit]),
    }


def _mean(values: Tensor) -> float | None:
    """None where there is nothing to average: JSON has no NaN."""
    return float(values.mean()) if len(values) > 0 else None


def execute(
    *,
    source: Model,
    networks: Sequence[Model],
    channels: Sequence[Channel],
    kinds: Sequence[str],
    level: float | None,
    dataset: Dataset,
    seed: int,
    arch: str,
    device: torch.device,
    out: Path | None = None,
) -> tuple[Path, pd.DataFrame]:
    """Measure what is not done yet, write recovery.csv and recovery.html; returns the folder and `table`.

    ``channels`` are the transforms before ``source`` and the ``networks`` that take its place. Every
    attack and channel that is done is on the disk. Raises ``UserError`` for an unknown attack,
    two channels of one name and where the device has too little memory.
    """
    check_kinds(kinds)
    names = [channel.name for channel in channels]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two channels are called {name!r}: give other values or another label")
    levels_of = {kind: level_of(ATTACKS[kind], level) for kind in kinds}
    models = list({model.label: model for model in (source, *networks)}.values())
    config = {
        "version": __version__,
        "command": "recover",
        "source": source.label,
        "kinds": {kind: None if math.isinf(at) else at for kind, at in levels_of.items()},
        "channels": [[c.kind, c.name, c.effective_compression] for c in channels],
        "seed": seed,
        "arch": arch,
        "models": [{"label": model.label, "sha256": model.card["sha256"]} for model in models],
        "dataset": {"name": dataset.name, "checksum": dataset.checksum, "n": len(dataset)},
        "device": device.type,
    }
    cards = [model.card for model in models]
    size = block_size(dataset.images.shape[1:], device)
    measurement = Measurement(
        out, new_record(config, dataset=dataset, cards=cards, device=describe(device), batch_size=size)
    )
    pixels, labels = dataset.pixels(slice(None), device), dataset.labels.to(device)
    todo = {k: [c for c in channels if f"{k}/{c.name}" not in measurement.done] for k in kinds}
    steps = len(kinds) * len(channels) * len(labels)
    done = steps - sum(map(len, todo.values())) * len(labels)
    try:
        guard = Guard(kinds[0], ATTACKS[kinds[0]], seed=seed)
        meter = Meter(images=steps, done=done, kinds=kinds, passes=lambda: guard.passes)
        with full_precision(), meter:
            for kind in kinds:
                if not todo[kind]:
                    continue
                guard = Guard(kind, ATTACKS[kind], seed=seed)
                meter.begin(f"inputs of {source.label}", images=len(labels), kind=kind)
                adversarial, fooled = craft(guard, source.module, pixels, labels, level=levels_of[kind])
                right = predictions(source.module, pixels) == labels
                measurement.put(kind, {"right": int(right.sum()), "fooled": int(fooled.sum())})
                for channel in todo[kind]:
                    meter.begin(channel.name, images=len(labels), kind=kind)
                    found = recover(
                        channel, guard, pixels, labels, adversarial, fooled, level=levels_of[kind]
                    )
                    measurement.put(f"{kind}/{channel.name}", found)
                    meter.advance(len(labels))
    except torch.OutOfMemoryError as error:
        raise UserError(f"{device} has too little memory: {error}") from error
    frame = table(measurement)
    atomic_write.write_text(measurement.folder / RESULTS, frame.to_csv(index=False, lineterminator="\n"))
    measurement.finish()
    from blrobust.reports import recovery as report  # seaborn takes a second to import

    report.render(measurement, frame, measurement.folder / REPORT)
    return measurement.folder, frame


def table(measurement: Measurement) -> pd.DataFrame:
    """One row per attack and channel: what recovery.csv holds.

    Columns: attack, strength, source, kind and channel, effective_compression, n, right (source, clean),
    fooled, then of the fooled: recovered, clean, adaptive (counts), recovered_share with ci_low and
    ci_high (Wilson, 95 %), and distortion, adaptive_l2.
    """
    config, rows = measurement.record["config"], []
    for attack, level in config["kinds"].items():
        for kind, channel, compression in config["channels"]:
            found, base = measurement.done[f"{attack}/{channel}"], measurement.done[attack]
            n = base["fooled"]
            share = wilson(found["recovered"] / n, n) if n else (math.nan,) * 3
            rows.append(
                {
                    "attack": attack,
                    "strength": level,
                    "source": config["source"],
                    "kind": kind,
                    "channel": channel,
                    "effective_compression": compression,
                    "n": measurement.record["dataset"]["n"],
                    **base,
                    **{name: found[name] for name in ("recovered", "clean", "adaptive")},
                    **dict(zip(("recovered_share", "ci_low", "ci_high"), share, strict=True)),
                    "distortion": found["distortion"],
                    "adaptive_l2": found["adaptive_l2"],
                }
            )
    return pd.DataFrame(rows).astype({"distortion": float, "adaptive_l2": float, "strength": float})
