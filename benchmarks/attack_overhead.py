"""The overhead of attacks: their time beside that of the network's passes alone.

"Of the calls" is the time of the network's recorded calls, repeated without the attack, divided by the time
of the attack with the guard that checks its results. "Of full blocks" is the same for as many passes in
blocks of the full size, their number rounded up.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.perturbations import levels

ROUNDS = 3  # of which the median counts; no further one after SLOW seconds
SLOW, SHORT = 4.0, 0.3  # seconds; runs are repeated to fill SHORT
Block = tuple[Tensor, Tensor, range]
Call = tuple[int, int]
"""Samples in a forward pass, and the number of its backward passes."""


@dataclass(frozen=True)
class Row:
    """Speed and accuracy of one attack; those of other packages have no shares and no numbers of passes."""

    attack: str
    by: str
    strength: float
    images_per_second: float | None = None
    accuracy: float | None = None
    of_calls: float | None = None
    of_full: float | None = None
    forwards: float | None = None
    backwards: float | None = None
    note: str = ""
    images: int = 0


class Recorder(nn.Module):
    """A network that records the batch sizes of its calls and the number of their backward passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[list[int]] = []
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        call = [len(inputs), 0]
        self.calls.append(call)
        logits: Tensor = self.model(inputs)
        if logits.requires_grad:

            def backwards(_: Tensor) -> None:
                call[1] += 1

            logits.register_hook(backwards)  # type: ignore[no-untyped-call]
        return logits


def bare(model: nn.Module, images: Tensor, calls: Sequence[Call]) -> None:
    """Repeat `calls` of the network without the attack, on the pixels of `images` (n, C, H, W)."""
    for size, backwards in calls:
        inputs = (
            images[:size] if size <= len(images) else images.repeat(-(-size // len(images)), 1, 1, 1)[:size]
        )
        if backwards == 0:
            with torch.no_grad():
                model(inputs)
            continue
        inputs = inputs.detach().requires_grad_()
        total = model(inputs).sum()
        for left in reversed(range(backwards)):
            torch.autograd.grad(total, inputs, retain_graph=left > 0)


def full(calls: Sequence[Call], size: int) -> list[Call]:
    """Return calls in blocks of `size` images, with at least as many passes of images as `calls`."""
    forwards = sum(count for count, _ in calls)
    backwards = sum(count * times for count, times in calls)
    # A forward pass with several backward passes is rare: here it has at most one.
    blocks = -(-max(forwards, backwards) // size)
    both = -(-backwards // size)
    return [(size, 1)] * both + [(size, 0)] * (blocks - both)


def measure(model: nn.Module, blocks: list[Block], names: Sequence[str]) -> Iterator[Row]:
    """Yield a row for each attack of `names`: its time, and the share that the calls of the network take."""
    count = sum(len(labels) for _, labels, _ in blocks)
    for kind in names:
        spec = ATTACKS[kind]
        strengths = [level for level in levels.parse(spec.grid) if level > 0]
        level = strengths[len(strengths) // 2]
        guard = Guard(kind, spec, seed=0)
        recorder = Recorder(model)
        taken = 0.0
        try:
            for _ in range(2):  # the first run includes the passes that serve all strengths
                if taken > SLOW:  # they are a small part of a long attack
                    break
                recorder.calls.clear()
                start = time.perf_counter()
                right = int(correct_under_attack(guard, recorder, blocks, level))
                taken = time.perf_counter() - start
        except Exception as error:  # the other attacks are still measured
            yield Row(kind, "blrobust", level, note=f"{type(error).__name__}: {error}"[:80], images=count)
            continue
        calls = [(size, backwards) for size, backwards in recorder.calls]
        images = blocks[0][0]
        runs = [partial(bare, model, images, calls), partial(bare, model, images, full(calls, len(images)))]
        if taken > SLOW:
            seconds, (alone, whole) = taken, in_turns(images.device, runs, taken)
        else:
            ours = partial(correct_under_attack, guard, recorder, blocks, level)
            seconds, alone, whole = in_turns(images.device, [ours, *runs], taken)
        yield Row(
            kind, "blrobust", level, count / seconds, right / count, alone / seconds, whole / seconds,
            sum(size for size, _ in calls) / count, sum(size * times for size, times in calls) / count,
            images=count,
        )  # fmt: skip


def in_turns(
    device: torch.device, runs: list[Callable[[], Any]], expected: float, slow: float = SLOW
) -> list[float]:
    """Return the median seconds of each run, measured in turns.

    `expected` is the time of the first run in seconds. Short runs are repeated several times between two
    synchronisations. No further round begins after `slow` seconds.
    """
    times = max(1, round(SHORT / expected))
    found: list[list[float]] = []
    while len(found) < ROUNDS and sum(map(sum, found)) * times < slow:
        found.append([_seconds(device, run, times) for run in runs])
    return [statistics.median(seconds) for seconds in zip(*found, strict=True)]


def _seconds(device: torch.device, run: Callable[[], Any], times: int) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        run()
    _wait(device)
    return (time.perf_counter() - start) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def correct_under_attack(guard: Guard, model: nn.Module, blocks: list[Block], level: float) -> Tensor:
    """Return the number of images that are classified correctly under our attack."""
    right = [
        (guard(model, pixels, labels, level=level, draw=0, samples=samples)["prediction"] == labels).sum()
        for pixels, labels, samples in blocks
    ]
    return torch.stack(right).sum()
