"""Recovery of labels: adversarial inputs that are classified correctly behind a channel.

As in Dziedzic et al. 2019, section 6.2.12, attacks on one network, the source, make adversarial inputs. Then
these inputs pass through a channel: a low-pass filter, say, in front of the source, or another network in its
place. The result is the number of inputs that are classified correctly again. For comparison, an adaptive
attack runs on channel and network together, as by an adversary who knows the channel.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from blrobust import __version__, deadline
from blrobust.analysis.recovery import RecoveryAnalysis
from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.catalogue.selection import LISTED, did_you_mean
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.counting_model import gives_gradients
from blrobust.attacks.guard import Guard
from blrobust.data.datasets import Dataset
from blrobust.device import full_precision
from blrobust.errors import FailedPartsError, UserError
from blrobust.evaluation.probe import check_under_attack
from blrobust.evaluation.run_ends import begin, end, failure, identities, identity_of, restore
from blrobust.models.batches import InParts, bounded
from blrobust.models.channels import Channel
from blrobust.models.zoo import Model
from blrobust.perturbations import levels
from blrobust.perturbations.base import block_size, predict
from blrobust.perturbations.seeding import seeded
from blrobust.progress import Meter
from blrobust.runs import configuration
from blrobust.runs.interruption import resumable
from blrobust.runs.packed_arrays import Outcomes
from blrobust.runs.run import Run


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `UserError` unless every kind is the name of an attack that searches for adversarial inputs."""
    legal = [name for name, spec in ATTACKS.items() if spec.is_search]
    for kind in [kind for kind in kinds if kind not in legal]:
        raise UserError(
            f"attacks: got {kind!r}{did_you_mean(kind, legal)}; legal: attacks that search; {LISTED}"
        )


def level_of(spec: AttackSpec, given: float | None) -> float:
    """Return the level of an attack: infinity if the attack searches for the smallest perturbation.

    For other attacks it is `given`, or by default the third of the attack's default levels (`spec.grid`).
    """
    if spec.minimal:
        return math.inf
    return levels.parse(spec.grid)[2] if given is None else given


class Crafted(NamedTuple):
    """The results of an attack on n images.

    `pixels` (n, C, H, W) are the adversarial inputs, or the clean images if the attack failed. `success`,
    bool (n,), states whether the attack succeeded. `reason`, uint8 (n,), is the `Status` of the attack on
    each image. `forwards` and `backwards` are numbers of forward and backward passes, summed over the images.
    """

    pixels: Tensor
    success: Tensor
    reason: Tensor
    forwards: int
    backwards: int


def craft(guard: Guard, network: nn.Module, pixels: Tensor, labels: Tensor, *, level: float) -> Crafted:
    """Run the attack of `guard` on pixels (n, C, H, W) in blocks (batches), and return its results."""
    blocks = []
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
        blocks.append(result)
    whole = {key: torch.cat([block[key] for block in blocks]) for key in blocks[0]}
    forwards, backwards = (int(whole[key].sum()) for key in ("forwards", "backwards"))
    return Crafted(whole["pixels"], whole["success"], whole["reason"], forwards, backwards)


def l2_norms(difference: Tensor) -> Tensor:
    """Return the L2 norm (n,) of differences of images (n, C, H, W), in the units of the pixels."""
    result: Tensor = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    return result


@torch.no_grad()
def predictions(network: nn.Module, pixels: Tensor, *, seed: int) -> Tensor:
    """Return the predicted classes int16 (n,) of pixels (n, C, H, W); -1 if a logit is not finite.

    The pixels are split into blocks (batches). The global random generators are seeded from `seed`.
    """
    found = []
    for place, block in enumerate(_blocks(pixels)):
        with seeded("recover", seed, place, device=pixels.device):
            found.append(predict(network, block))
    return torch.cat(found)


def _blocks(pixels: Tensor) -> tuple[Tensor, ...]:
    return torch.split(pixels, block_size(pixels.shape[1:], pixels.device))


def recover(
    channel: Channel, guard: Guard, pixels: Tensor, labels: Tensor, inputs: Tensor, *, level: float, seed: int
) -> tuple[Outcomes, int, int]:
    """Return the outcomes of a channel, and the numbers of images in its forward and backward passes.

    `inputs` (n, C, H, W) are adversarial inputs for the images `pixels`. The outcomes are arrays (n,):

    - `prediction`: int16, the class of the adversarial input, predicted by channel and network.
    - `clean_prediction`: int16, the class of the clean image, predicted by channel and network.
    - `broken`: bool, whether the adaptive attack (on channel and network together) succeeds.
    - `reason`: uint8, the `Status` of the adaptive attack.
    - `distance`: float32, L2 distance from the clean image to the adversarial input after the transform.
    - `adaptive_distance`: float32, L2 distance between the clean image and the result of the adaptive attack.
    - `no_gradients`: bool, whether the attack needs gradients and the channel has none.
    """
    whole = channel.whole
    on_adversarial = predictions(whole, inputs, seed=seed)
    on_clean = predictions(whole, pixels, seed=seed)
    adaptive = craft(guard, whole, pixels, labels, level=level)
    with torch.no_grad():
        network_inputs = torch.cat([channel.transform(block) for block in _blocks(inputs)])
    tensors = {
        "prediction": on_adversarial,
        "clean_prediction": on_clean,
        "broken": adaptive.success,
        "reason": adaptive.reason,
        "distance": l2_norms(network_inputs - pixels),
        "adaptive_distance": l2_norms(adaptive.pixels - pixels),
        "no_gradients": _lacks_gradients(guard.kind, whole, pixels),
    }
    return _to_arrays(tensors), adaptive.forwards + 2 * len(labels), adaptive.backwards


def _to_arrays(tensors: dict[str, Tensor]) -> Outcomes:
    return {key: values.cpu().numpy() for key, values in tensors.items()}


def _lacks_gradients(kind: str, network: nn.Module, pixels: Tensor) -> Tensor:
    """Return whether an attack needs gradients that the network lacks: bool (n,), the same for all images."""
    lacks = ATTACKS[kind].gradients and not gives_gradients(network, pixels)
    return torch.full((len(pixels),), lacks)


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
) -> Path:
    """Measure the pairs of attack and channel that are not stored yet, write results.csv, return the folder.

    `channels` are transforms in front of `source`, and the `networks`. Models get at most `batch_size` images
    at once, by default a block (`block_size`). `on_start` is called with the run folder, the number of stored
    pairs and the number of all pairs. Every pair is stored as soon as it is finished.

    Raises `UserError` for two equal names and for an attack that needs more classes. If pairs fail or do not
    fit into memory, all others are measured before `FailedPartsError` is raised.
    """
    for kind in kinds:
        Guard(kind, ATTACKS[kind], seed=seed).check_classes(len(dataset.classes))
    names = [source.label, *(channel.name for channel in channels)]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"channels: got {name!r} twice; legal: channels with different names")
    levels_of = {kind: level_of(ATTACKS[kind], strength) for kind in kinds}
    if batch_size is not None:
        source, networks = bounded(source, batch_size), [bounded(model, batch_size) for model in networks]
        channels = [replace(channel, network=InParts(channel.network, batch_size)) for channel in channels]
    models = list({model.label: model for model in (source, *networks)}.values())
    config = configuration.Recover(
        version=__version__,
        source=source.label,
        kinds={kind: None if math.isinf(level) else level for kind, level in levels_of.items()},
        channels=[configuration.Channel(c.kind, c.name, c.effective_compression) for c in channels],
        seed=seed,
        arch=arch,
        models=identities(models),
        dataset=identity_of(dataset),
        device=device.type,
        revisions={kind: ATTACKS[kind].revision for kind in kinds if ATTACKS[kind].revision != 1},
    )
    uses_gradients = any(ATTACKS[kind].gradients for kind in kinds)
    size = batch_size or block_size(dataset.images.shape[1:], device)
    run, answers = begin(
        config, models=models, dataset=dataset, device=device, batch_size=size, out=out,
        gradients=uses_gradients,
    )  # fmt: skip
    total = len(kinds) * len(channels)
    with run:

        def done() -> int:
            return sum(subject != source.label for subject, *_ in run.done())

        on_start(run.path, done(), total)
        results = RecoveryAnalysis(run, config)
        if run.finished:
            restore(results)
            return run.path
        with resumable(run.path, lambda: f"{done()} of {total} pairs of attack and channel"):
            with full_precision():
                if uses_gradients:
                    check_under_attack(models, dataset, device, run.record.flags)
                failed = _measure(run, source, channels, levels_of, dataset, seed=seed, device=device)
            if done() == 0:
                raise FailedPartsError(failed)
            end(results, answers, models=models, dataset=dataset, device=device, failed=failed)
    if failed:
        raise FailedPartsError(failed, run.path)
    return run.path


def _measure(
    run: Run,
    source: Model,
    channels: Sequence[Channel],
    levels_of: dict[str, float],
    dataset: Dataset,
    *,
    seed: int,
    device: torch.device,
) -> list[str]:
    """Attack the source, and measure and store the missing channels; return the messages of errors."""
    pixels, labels = dataset.pixels(slice(None), device), dataset.labels.to(device)
    kinds, n, stored = list(levels_of), len(labels), {(kind, subject) for subject, kind, *_ in run.done()}
    todo = {kind: [c for c in channels if (kind, c.name) not in stored] for kind in kinds}
    total, missing = len(kinds) * len(channels) * n, sum(map(len, todo.values())) * n
    guard = Guard(kinds[0], ATTACKS[kinds[0]], seed=seed)
    failed: list[str] = []
    with Meter(images=total, done=total - missing, kinds=kinds, passes=lambda: guard.passes) as meter:
        for kind, level in levels_of.items():
            if not todo[kind] and (kind, source.label) in stored:
                continue
            guard = Guard(kind, ATTACKS[kind], seed=seed)
            meter.begin(f"inputs of {source.label}", images=n, kind=kind)
            start = time.perf_counter()
            try:
                crafted = craft(guard, source.module, pixels, labels, level=level)
                tensors = {
                    "success": crafted.success,
                    "reason": crafted.reason,
                    "no_gradients": _lacks_gradients(kind, source.module, pixels),
                    "prediction": predictions(source.module, pixels, seed=seed),
                }
            except (torch.OutOfMemoryError, UserError) as error:
                meter.fail()
                failed.append(f"{kind} failed: {failure(error, device)}")
                continue
            if (kind, source.label) not in stored:
                run.add(
                    (source.label, kind, level, 0), _to_arrays(tensors), forwards=crafted.forwards + n,
                    backwards=crafted.backwards, seconds=time.perf_counter() - start,
                )  # fmt: skip
            for channel in todo[kind]:
                deadline.check()
                meter.begin(channel.name, images=n, kind=kind)
                start = time.perf_counter()
                try:
                    outcomes, forwards, backwards = recover(
                        channel, guard, pixels, labels, crafted.pixels, level=level, seed=seed
                    )
                except (torch.OutOfMemoryError, UserError) as error:
                    meter.fail()
                    failed.append(f"{kind} with {channel.name} failed: {failure(error, device)}")
                    continue
                run.add(
                    (channel.name, kind, level, 0), outcomes, forwards=forwards, backwards=backwards,
                    seconds=time.perf_counter() - start,
                )  # fmt: skip
                meter.advance(n)
    return failed
