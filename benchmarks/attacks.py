"""Attacks beside a bare loop of as many passes, and beside other packages: speed and what is left.

    python benchmarks/attacks.py [--device cuda] [--model fp32] [--images 1000] [--steps 100]

"of a bare loop": the time that the same number of forward and backward passes takes without an attack,
in blocks of the same size, over the time of the guarded attack. Other packages (`pip install
pyautoattack adv-lib visdom`) run where they are installed, on the same images in the same blocks, and their
inputs are checked in the same way. Writes attacks-DEVICE.json and prints a table in markdown.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blrobust import datasets, model_names, zoo
from blrobust.attacks.guard import Guard
from blrobust.attacks.table import ATTACKS
from blrobust.device import describe, full_precision, resolve
from blrobust.perturbation import BLOCK, predict

EPSILON = 8 / 255
Block = tuple[Tensor, Tensor, range]
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """A figure of the table; `accuracy` at 8/255, `of_bare` where it is ours."""

    attack: str
    by: str
    seconds: float
    images_per_second: float
    accuracy: float
    of_bare: float | None = None
    note: str = ""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="fp32")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    device = resolve(options.device)
    data = datasets.load_default(data_dir=None).take(options.images)
    (name,) = model_names.parse_names(options.model)
    model = zoo.load(name, arch="resnet20", dataset=data, device=device).module
    labels = data.labels.to(device)
    blocks = [
        (data.pixels(slice(i, i + BLOCK), device), labels[i : i + BLOCK], range(i, min(i + BLOCK, len(data))))
        for i in range(0, len(data), BLOCK)
    ]
    rows = []
    with full_precision():
        for row in measure(model, blocks, options.steps):
            rows.append(row)
            bare = "" if row.of_bare is None else f"{row.of_bare:.2f}"
            cells = [
                row.attack,
                row.by,
                f"{row.images_per_second:.0f}",
                bare,
                f"{row.accuracy:.1%}",
                row.note,
            ]
            print("| " + " | ".join(cells) + " |", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    where = {"device": describe(device), "torch": torch.__version__, "model": options.model}
    text = json.dumps({"where": where, "rows": [asdict(row) for row in rows]}, indent=1)
    (options.out / f"attacks-{device.type}.json").write_text(text + "\n")


def measure(model: nn.Module, blocks: list[Block], steps: int) -> Iterator[Row]:
    """A row for each of our attacks, and for each of its peers at the same number of steps."""
    for kind, parameters in {
        "fgsm": {},
        "pgd-linf": {"steps": steps},
        "apgd-ce": {"steps": steps},
        "fmn-linf": {"steps": steps},
        "square-linf": {"queries": steps},
        "pixel": {},
    }.items():
        entry = ATTACKS[kind]
        guard = Guard(kind, entry, seed=0, parameters={**entry.budget(), **parameters})
        level = 100.0 if kind == "pixel" else EPSILON
        _ours(guard, model, blocks[:1], level)  # warm-up
        seconds, (right, forwards, backwards) = _timed(blocks, partial(_ours, guard, model, blocks, level))
        bare, _ = _timed(blocks, partial(_bare, model, blocks, forwards, backwards))
        yield _row(kind, "blrobust", seconds, blocks, right, of_bare=bare / seconds)
        for by, peer in PEERS.get(kind, {}).items():
            try:
                attack = peer(steps)
                attack(model, *blocks[0][:2])
                seconds, right = _timed(blocks, partial(_theirs, attack, model, blocks))
            except ImportError as error:
                yield Row(kind, by, 0, 0, 0, note=f"not installed: {error.name}")
                continue
            yield _row(kind, by, seconds, blocks, right)


def _row(kind: str, by: str, seconds: float, blocks: list[Block], right: int, **more: Any) -> Row:
    images = sum(len(labels) for _, labels, _ in blocks)
    return Row(kind, by, seconds, images / seconds, right / images, **more)


def _timed(blocks: list[Block], run: Callable[[], Any]) -> tuple[float, Any]:
    cuda = blocks[0][0].is_cuda
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = run()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def _ours(guard: Guard, model: nn.Module, blocks: list[Block], level: float) -> tuple[int, int, int]:
    """Images right under the attack, and passes."""
    outcomes = []
    for pixels, labels, samples in blocks:
        outcome = guard(model, pixels, labels, level=level, draw=0, samples=samples)
        right = (outcome["prediction"] == labels).sum()
        outcomes.append(torch.stack([right, outcome["forwards"].sum(), outcome["backwards"].sum()]))
    right, forwards, backwards = torch.stack(outcomes).sum(0).tolist()
    return right, forwards, backwards


def _bare(model: nn.Module, blocks: list[Block], forwards: int, backwards: int) -> None:
    """As many passes over the blocks, and nothing else."""
    while forwards > 0:
        for pixels, labels, _ in blocks:
            if forwards <= 0:
                return
            if backwards > 0:
                inputs = pixels.clone().requires_grad_()
                F.cross_entropy(model(inputs), labels).backward()
                backwards -= len(labels)
            else:
                with torch.no_grad():
                    model(pixels)
            forwards -= len(labels)


def _theirs(attack: Attack, model: nn.Module, blocks: list[Block]) -> int:
    right = 0
    for pixels, labels, _ in blocks:
        clean = predict(model, pixels) == labels
        found = attack(model, pixels, labels).detach()
        near = (found - pixels).abs().flatten(1).amax(1) <= EPSILON * (1 + 1e-5)
        close = near & (found == found.clamp(0, 1)).flatten(1).all(1)
        kept = torch.where(close.view(-1, 1, 1, 1), found, pixels)
        right += int((clean & (predict(model, kept) == labels)).sum())
    return right


def _adversarial_library(name: str, **settings: Any) -> Callable[[int], Attack]:
    def build(steps: int) -> Attack:
        module = {"apgd": "auto_pgd", "fmn": "fast_minimum_norm"}[name]
        function = getattr(importlib.import_module(f"adv_lib.attacks.{module}"), name)
        count = {"apgd": {"n_iter": steps}, "fmn": {"steps": steps}}[name]
        return lambda model, pixels, labels: function(model, pixels, labels, **count, **settings)

    return build


def _auto_attack(steps: int) -> Attack:
    base = importlib.import_module("pyautoattack.autopgd_base")

    def attack(model: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
        settings = {"n_iter": steps, "norm": "Linf", "eps": EPSILON, "loss": "ce", "device": pixels.device}
        found: Tensor = base.APGDAttack(model, **settings).perturb(pixels, labels)
        return found

    return attack


PEERS: dict[str, dict[str, Callable[[int], Attack]]] = {
    "apgd-ce": {
        "pyautoattack": _auto_attack,
        "adv-lib": _adversarial_library("apgd", eps=EPSILON, norm=float("inf"), loss_function="ce"),
    },
    "fmn-linf": {"adv-lib": _adversarial_library("fmn", norm=float("inf"))},
}

if __name__ == "__main__":
    main()
