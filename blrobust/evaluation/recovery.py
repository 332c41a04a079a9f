"""Labels of adversarial inputs recovered by a channel that the adversary did not know.

As in Dziedzic et al. 2019, section 6.2.12, inputs are crafted on one network, and then low-passed or given
to a band-limited network. The result is the number of these inputs that are classified correctly again. As a
control, it is also measured against an adversary who knows the channel.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from blrobust import __version__
from blrobust.analysis.recovery import table
from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.counting_model import gives_gradients
from blrobust.attacks.guard import Guard
from blrobust.attacks.status import NO_GRADIENTS
from blrobust.data.datasets import Dataset
from blrobust.device import describe, full_precision
from blrobust.errors import FailedPartsError, UserError
from blrobust.evaluation.probe import check_again, probe
from blrobust.models.batches import InParts, bounded
from blrobust.models.channels import Channel
from blrobust.models.zoo import Model
from blrobust.perturbations import levels
from blrobust.perturbations.base import block_size, predict
from blrobust.perturbations.seeding import seeded
from blrobust.progress import Meter
from blrobust.runs.interruption import resumable
from blrobust.runs.measurement import Measurement
from blrobust.runs.provenance import new_record

RESULTS = "recovery.csv"


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `UserError` unless every kind is an attack in `ATTACKS` that searches for adversarial inputs."""
    legal = [name for name, spec in ATTACKS.items() if spec.is_search]
    for kind in kinds:
        if kind not in legal:
            raise UserError(f"--kind: got {kind!r}; legal: {', '.join(legal)}")


def level_of(spec: AttackSpec, given: float | None) -> float:
    """Return the strength of an attack: infinity for one that searches for the smallest perturbation.

    Otherwise `given`, or the third of the attack's default strengths: 2/255 in Linf, 0.25 in L2.
    """
    if spec.minimal:
        return math.inf
    return levels.parse(spec.grid)[2] if given is None else given


def craft(
    guard: Guard, network: torch.nn.Module, pixels: Tensor, labels: Tensor, *, level: float
) -> tuple[Tensor, Tensor]:
    """Return adversarial pixels (n, C, H, W), and bool (n,): whether the attack succeeded.

    If it did not, the pixels are those of the image.
    """
    inputs, success = [], []
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
        inputs.append(result["pixels"])
        success.append(result["success"])
    return torch.cat(inputs), torch.cat(success)


def l2_norms(difference: Tensor) -> Tensor:
    """Return the L2 norm (n,) over all pixels and channels, in pixel units of [0, 1]."""
    result: Tensor = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    return result


@torch.no_grad()
def predictions(network: torch.nn.Module, pixels: Tensor, *, seed: int) -> Tensor:
    """Return the predicted classes (n,), computed block by block; -1 where logits are not finite.

    A network that draws random numbers draws them from `seed`.
    """
    found = []
    for place, block in enumerate(_blocks(pixels)):
        with seeded("recover", seed, place, device=pixels.device):
            found.append(predict(network, block))
    return torch.cat(found)


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
    seed: int,
) -> dict[str, Any]:
    """Return the labels that one channel recovers, as counts among the `fooled` images (n,).

    - `recovered`: correct on the adversarial input through the channel.
    - `clean`: correct on the image itself through the channel, an upper bound of `recovered`.
    - `adaptive`: still correct when the attack runs through channel and network.
    - `distortion`: mean L2 distance between the image and the network's input.
    - `adaptive_l2`: mean L2 distance of the inputs that the adaptive attack finds.
    - `not_finite`: images (n,) for which logits of these predictions are not finite; they count as wrong.
    - `flags`: "no gradients" if the adaptive attack needs gradients and channel and network have none.
    """
    whole = channel.whole
    on_adversarial = predictions(whole, adversarial, seed=seed)
    on_clean = predictions(whole, pixels, seed=seed)
    right, clean = on_adversarial == labels, on_clean == labels
    adaptive, beaten = craft(guard, whole, pixels, labels, level=level)
    with torch.no_grad():
        network_inputs = torch.cat([channel.transform(block) for block in _blocks(adversarial)])
    return {
        "recovered": int((right & fooled).sum()),
        "clean": int((clean & fooled).sum()),
        "adaptive": int((clean & fooled & ~beaten).sum()),
        "distortion": _mean(l2_norms(network_inputs - pixels)[fooled]),
        "adaptive_l2": _mean(l2_norms(adaptive - pixels)[beaten & fooled]),
        "not_finite": int(((on_adversarial < 0) | (on_clean < 0)).sum()),
        "flags": _missing_gradients(guard.kind, whole, pixels),
    }


def _missing_gradients(kind: str, network: torch.nn.Module, pixels: Tensor) -> list[str]:
    """Return the flag of a network without gradients if the attack needs them, as it finds nothing then."""
    return [NO_GRADIENTS] if ATTACKS[kind].gradients and not gives_gradients(network, pixels) else []


def _mean(values: Tensor) -> float | None:
    """Return the mean, or None if there are no values, because JSON has no NaN."""
    return float(values.mean()) if len(values) > 0 else None


def execute(
    *,
    source: Model,
    networks: Sequence[Model],
    channels: Sequence[Channel],
    kinds: Sequence[str],
    strength: float | None,
    dataset: Dataset,
    seed: int,
    arch: str,
    device: torch.device,
    batch_size: int | None = None,
    out: Path | None = None,
    on_start: Callable[[Path, int, int], None] = lambda folder, done, total: None,
) -> tuple[Measurement, pd.DataFrame, list[str]]:
    """Measure the pairs of attack and channel that are not stored yet, and write recovery.csv.

    `channels` are the transforms before `source` and the `networks` that replace it. Networks get at most
    `batch_size` images at once, by default blocks. `on_start` is called with the folder, the number of
    stored pairs and that of all. Every finished pair is stored at once. Returns the measurement, its
    table, and the errors of pairs that fail, or do not fit into memory, after which the others go on.

    Raises `UserError` for an unknown attack and for two channels of one name, `FailedPartsError` where all
    pairs fail.
    """
    check_kinds(kinds)
    for kind in kinds:
        Guard(kind, ATTACKS[kind], seed=seed).check_classes(len(dataset.classes))
    names = [channel.name for channel in channels]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"channels: got {name!r} twice; legal: channels with different names")
    levels_of = {kind: level_of(ATTACKS[kind], strength) for kind in kinds}
    if batch_size is not None:
        source, networks = bounded(source, batch_size), [bounded(model, batch_size) for model in networks]
        channels = [replace(channel, network=InParts(channel.network, batch_size)) for channel in channels]
    models = list({model.label: model for model in (source, *networks)}.values())
    config = {
        "version": __version__,
        "command": "recover",
        "source": source.label,
        "kinds": {kind: None if math.isinf(level) else level for kind, level in levels_of.items()},
        "channels": [[c.kind, c.name, c.effective_compression] for c in channels],
        "seed": seed,
        "arch": arch,
        "models": [{"label": model.label, "sha256": model.card.sha256} for model in models],
        "dataset": {"name": dataset.name, "checksum": dataset.checksum, "n": len(dataset)},
        "device": device.type,
    }
    revisions = {kind: ATTACKS[kind].revision for kind in kinds if ATTACKS[kind].revision != 1}
    if revisions:
        config["revisions"] = revisions
    cards = [asdict(model.card) for model in models]
    size = batch_size or block_size(dataset.images.shape[1:], device)
    record = new_record(config, dataset=dataset, cards=cards, device=describe(device), batch_size=size)
    record |= probe(models, dataset, device, gradients=any(ATTACKS[kind].gradients for kind in kinds))
    with Measurement.begin(out, record) as measurement:
        total = len(kinds) * len(channels)

        def done() -> int:
            return sum("/" in name for name in measurement.done)

        on_start(measurement.folder, done(), total)
        with resumable(measurement.folder, lambda: f"{done()} of {total} pairs of attack and channel"):
            with full_precision():
                failed = _measure(measurement, source, channels, levels_of, dataset, seed=seed, device=device)
            if done() == 0:
                raise FailedPartsError(failed)
            if measurement.record["finished"] is None:
                check_again(models, dataset, device, record, measurement.record["flags"])
            frame = table(measurement)
            measurement.write_csv(RESULTS, frame)
            if not failed:
                measurement.finish()
    return measurement, frame, failed


def _measure(
    measurement: Measurement,
    source: Model,
    channels: Sequence[Channel],
    levels_of: dict[str, float],
    dataset: Dataset,
    *,
    seed: int,
    device: torch.device,
) -> list[str]:
    """Run every attack on the source once, measure the channels that are not stored, return the errors."""
    pixels, labels = dataset.pixels(slice(None), device), dataset.labels.to(device)
    kinds, n = list(levels_of), len(labels)
    todo = {k: [c for c in channels if f"{k}/{c.name}" not in measurement.done] for k in kinds}
    total = len(kinds) * len(channels) * n
    guard = Guard(kinds[0], ATTACKS[kinds[0]], seed=seed)
    missing = sum(map(len, todo.values())) * n
    failed: list[str] = []
    with Meter(images=total, done=total - missing, kinds=kinds, passes=lambda: guard.passes) as meter:
        for kind in kinds:
            if not todo[kind]:
                continue
            guard = Guard(kind, ATTACKS[kind], seed=seed)
            level = levels_of[kind]
            meter.begin(f"inputs of {source.label}", images=n, kind=kind)
            try:
                adversarial, fooled = craft(guard, source.module, pixels, labels, level=level)
                doubts = [f"source: {flag}" for flag in _missing_gradients(kind, source.module, pixels)]
                right = predictions(source.module, pixels, seed=seed) == labels
            except (torch.OutOfMemoryError, UserError) as error:
                meter.fail()
                failed.append(f"{kind} failed: {_describe(error, device)}")
                continue
            measurement.put(kind, {"right": int(right.sum()), "fooled": int(fooled.sum())})
            for channel in todo[kind]:
                meter.begin(channel.name, images=n, kind=kind)
                try:
                    counts = recover(
                        channel, guard, pixels, labels, adversarial, fooled, level=level, seed=seed
                    )
                except (torch.OutOfMemoryError, UserError) as error:
                    meter.fail()
                    failed.append(f"{kind} with {channel.name} failed: {_describe(error, device)}")
                    continue
                measurement.put(f"{kind}/{channel.name}", counts | {"flags": doubts + counts["flags"]})
                meter.advance(n)
    return failed


def _describe(error: torch.OutOfMemoryError | UserError, device: torch.device) -> str:
    is_full = isinstance(error, torch.OutOfMemoryError)
    return f"{device} has too little memory, lower --batch-size: {error}" if is_full else str(error)
