"""Our attacks beside those of other packages: speed, and the accuracy of the model under attack.

The packages (`pip install pyautoattack adv-lib visdom`) run where they are installed, with the same number of
steps as our attacks, on the same images in the same blocks. Their results go through the same checks.
"""

import importlib
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from attack_overhead import Block, Row, correct_under_attack, in_turns
from torch import Tensor, nn

from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.perturbations.base import predict

EPSILON = 1 / 255  # at 8/255 the accuracy of a network without adversarial training is 0
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


def compare(model: nn.Module, blocks: list[Block], steps: int) -> Iterator[Row]:
    """Yield a row for each of our attacks in `PEERS` and for the same attack of other packages.

    All take the same number of steps. All attack the same images: those that are classified correctly without
    an attack. The clean predictions are computed before the time is measured.
    """
    chosen = []
    for pixels, labels, samples in blocks:
        rows = (predict(model, pixels) == labels).nonzero()[:, 0]
        chosen.append((pixels[rows], labels[rows], range(samples.start, samples.start + len(rows))))
    wrong = sum(len(labels) for _, labels, _ in blocks) - sum(len(labels) for _, labels, _ in chosen)
    for kind, peers in PEERS.items():
        spec = ATTACKS[kind]
        epsilon = EPSILON if spec.norm == "Linf" else 0.1
        guard = Guard(kind, spec, seed=0, parameters={**spec.budget(), "steps": steps})
        runs = {"blrobust": partial(correct_under_attack, guard, model, chosen, epsilon)}
        for by, peer in peers.items():
            try:
                attack = peer(steps, epsilon)
            except ImportError as error:
                yield Row(kind, by, epsilon, note=f"not installed: {error.name}")
                continue
            runs[by] = partial(_theirs, attack, model, chosen, spec.norm, epsilon)
        left = [int(run()) for run in runs.values()]  # also the warm-up
        start = time.perf_counter()
        int(runs["blrobust"]())
        expected = time.perf_counter() - start
        timed = in_turns(blocks[0][0].device, list(runs.values()), expected, slow=math.inf)
        count = sum(len(labels) for _, labels, _ in chosen)
        for by, right, seconds in zip(runs, left, timed, strict=True):
            yield Row(kind, by, epsilon, count / seconds, right / (count + wrong), images=count)


def _theirs(attack: Attack, model: nn.Module, blocks: list[Block], norm: str, epsilon: float) -> Tensor:
    """Return the number of images that are classified correctly under another package's attack.

    An image counts as not attacked if its perturbation exceeds `epsilon` or its pixels leave [0, 1].
    """
    order = torch.inf if norm == "Linf" else 2
    right = []
    for pixels, labels, _ in blocks:
        found = attack(model, pixels, labels).detach()
        near = torch.linalg.vector_norm((found - pixels).flatten(1), order, dim=1) <= epsilon * (1 + 1e-5)
        close = near & (found == found.clamp(0, 1)).flatten(1).all(1)
        kept = torch.where(close.view(-1, 1, 1, 1), found, pixels)
        right.append((predict(model, kept) == labels).sum())
        predict(model, (kept * 255).round() / 255)  # our guard also classifies the rounded images
    return torch.stack(right).sum()


def _adversarial_library(
    module: str, name: str, count: str, **settings: Any
) -> Callable[[int, float], Attack]:
    """Return the function (steps, epsilon) that makes an attack from the function `name` of adv-lib.

    `count` is the name of that function's argument for the number of steps.
    """

    def build(steps: int, epsilon: float) -> Attack:
        function = getattr(importlib.import_module(f"adv_lib.attacks.{module}"), name)
        size = {"apgd": {"eps": epsilon}, "pgd_linf": {"ε": epsilon}, "fmn": {}}[name]
        return lambda model, pixels, labels: function(
            model, pixels, labels, **{count: steps}, **size, **settings
        )

    return build


def _auto_attack(steps: int, epsilon: float) -> Attack:
    base = importlib.import_module("pyautoattack.autopgd_base")

    def attack(model: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
        settings = {"n_iter": steps, "norm": "Linf", "eps": epsilon, "loss": "ce", "device": pixels.device}
        found: Tensor = base.APGDAttack(model, **settings).perturb(pixels, labels)
        return found

    return attack


INFINITE = {"norm": float("inf")}
PEERS: dict[str, dict[str, Callable[[int, float], Attack]]] = {
    "pgd-linf": {
        "adv-lib": _adversarial_library(
            "projected_gradient_descent", "pgd_linf", "steps", relative_step_size=0.1
        )
    },
    "apgd-ce": {
        "pyautoattack": _auto_attack,
        "adv-lib": _adversarial_library("auto_pgd", "apgd", "n_iter", loss_function="ce", **INFINITE),
    },
    "fmn-linf": {"adv-lib": _adversarial_library("fast_minimum_norm", "fmn", "steps", **INFINITE)},
    "fmn-l2": {"adv-lib": _adversarial_library("fast_minimum_norm", "fmn", "steps", norm=2.0)},
}
