"""Attacks beside a bare loop of their passes, and beside other packages: speed and what is left.

    python benchmarks/attacks.py [--device cuda] [--model fp32] [--images 1000] [--steps 100]

"of the calls": the time that the very calls of the network take, forwards and backwards in batches of the
same sizes, without an attack, over the time of the guarded attack. "of full blocks": the same for as many
passes in full blocks, rounded up, which an attack that leaves fooled samples alone cannot have. Figures are
those of any strength but the first, for which the clean images are asked about too, and of the first for
attacks that take more than SLOW seconds. Other packages (`pip
install pyautoattack adv-lib visdom`) run where they are installed, at the same number of steps, on the same
images in the same blocks, and their inputs are checked in the same way. Writes attacks-DEVICE.json, where
attacks that are not measured again stay; `--doc` fills the tables of a document.
"""

import argparse
import importlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import report
import torch
from torch import Tensor, nn

from blrobust.attacks.catalogue.selection import kinds
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.data import datasets
from blrobust.device import full_precision, resolve
from blrobust.models import model_names, zoo
from blrobust.perturbations import levels
from blrobust.perturbations.base import block_size, predict

EPSILON = 1 / 255  # of the comparison: at 8/255 nothing is left of a network that was not trained for it
ROUNDS = 3  # of which the median counts; no further one after SLOW seconds
SLOW, SHORT = 4.0, 0.3
Block = tuple[Tensor, Tensor, range]
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
Call = tuple[int, int]
"""Samples that went through the network, and how often backwards."""


@dataclass(frozen=True)
class Row:
    """A figure of a table; the shares and the passes are of our attacks alone."""

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
    """A network that remembers how it was called."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.calls: list[list[int]] = []
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits."""
        call = [len(inputs), 0]
        self.calls.append(call)
        logits: Tensor = self.model(inputs)
        if logits.requires_grad:

            def backwards(_: Tensor) -> None:
                call[1] += 1

            logits.register_hook(backwards)  # type: ignore[no-untyped-call]
        return logits


def bare(model: nn.Module, images: Tensor, calls: Sequence[Call]) -> None:
    """Call the network, and nothing else; `images` (n, C, H, W) as often as a call needs."""
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
    """As many passes as in `calls`, in blocks of `size`."""
    forwards = sum(count for count, _ in calls)
    backwards = sum(count * times for count, times in calls)
    # A forward that is followed by several backwards is rare: here each has one of its own at most.
    blocks = -(-max(forwards, backwards) // size)
    both = -(-backwards // size)
    return [(size, 1)] * both + [(size, 0)] * (blocks - both)


def measure(model: nn.Module, blocks: list[Block], names: Sequence[str]) -> Iterator[Row]:
    """What a guarded attack costs beside its calls of the network: a row for each of `names`."""
    count = sum(len(labels) for _, labels, _ in blocks)
    for kind in names:
        spec = ATTACKS[kind]
        strengths = [level for level in levels.parse(spec.grid) if level > 0]
        level = strengths[len(strengths) // 2]
        guard = Guard(kind, spec, seed=0)
        recorder = Recorder(model)
        taken = 0.0
        try:
            for _ in range(2):  # what is asked once for all strengths is asked in the first
                if taken > SLOW:  # and is nothing beside the rest
                    break
                recorder.calls.clear()
                start = time.perf_counter()
                right = int(_ours(guard, recorder, blocks, level))
                taken = time.perf_counter() - start
        except Exception as error:  # costs its row
            yield Row(kind, "blrobust", level, note=f"{type(error).__name__}: {error}"[:80], images=count)
            continue
        calls = [(size, backwards) for size, backwards in recorder.calls]
        images = blocks[0][0]
        runs = [partial(bare, model, images, calls), partial(bare, model, images, full(calls, len(images)))]
        if taken > SLOW:
            seconds, (alone, whole) = taken, _in_turns(images.device, runs, taken)
        else:
            ours = partial(_ours, guard, recorder, blocks, level)
            seconds, alone, whole = _in_turns(images.device, [ours, *runs], taken)
        yield Row(
            kind, "blrobust", level, count / seconds, right / count, alone / seconds, whole / seconds,
            sum(size for size, _ in calls) / count, sum(size * times for size, times in calls) / count,
            images=count,
        )  # fmt: skip


def compare(model: nn.Module, blocks: list[Block], steps: int) -> Iterator[Row]:
    """Our attacks and other packages' at the same number of steps, on the images that are right without.

    So all attack the same images. What ours asks once for all strengths is asked before, as theirs is.
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
        runs = {"blrobust": partial(_ours, guard, model, chosen, epsilon)}
        for by, peer in peers.items():
            try:
                attack = peer(steps, epsilon)
            except ImportError as error:
                yield Row(kind, by, epsilon, note=f"not installed: {error.name}")
                continue
            runs[by] = partial(_theirs, attack, model, chosen, spec.norm, epsilon)
        left = [int(run()) for run in runs.values()]  # the warm-up too
        start = time.perf_counter()
        int(runs["blrobust"]())
        expected = time.perf_counter() - start
        timed = _in_turns(blocks[0][0].device, list(runs.values()), expected, slow=math.inf)
        count = sum(len(labels) for _, labels, _ in chosen)
        for by, right, seconds in zip(runs, left, timed, strict=True):
            yield Row(kind, by, epsilon, count / seconds, right / (count + wrong), images=count)


def _in_turns(
    device: torch.device, runs: list[Callable[[], Any]], expected: float, slow: float = SLOW
) -> list[float]:
    """Median seconds of each, measured in turns, short ones several times without a wait between."""
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


def _ours(guard: Guard, model: nn.Module, blocks: list[Block], level: float) -> Tensor:
    """How many images are right under the attack."""
    right = [
        (guard(model, pixels, labels, level=level, draw=0, samples=samples)["prediction"] == labels).sum()
        for pixels, labels, samples in blocks
    ]
    return torch.stack(right).sum()


def _theirs(attack: Attack, model: nn.Module, blocks: list[Block], norm: str, epsilon: float) -> Tensor:
    """The same of another package's, checked in the same way."""
    order = torch.inf if norm == "Linf" else 2
    right = []
    for pixels, labels, _ in blocks:
        found = attack(model, pixels, labels).detach()
        near = torch.linalg.vector_norm((found - pixels).flatten(1), order, dim=1) <= epsilon * (1 + 1e-5)
        close = near & (found == found.clamp(0, 1)).flatten(1).all(1)
        kept = torch.where(close.view(-1, 1, 1, 1), found, pixels)
        right.append((predict(model, kept) == labels).sum())
        predict(model, (kept * 255).round() / 255)  # ours are asked about again as images of 8 bits
    return torch.stack(right).sum()


def _adversarial_library(
    module: str, name: str, count: str, **settings: Any
) -> Callable[[int, float], Attack]:
    """`count` is its name of the number of steps."""

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


def overhead_table(rows: list[Row]) -> list[str]:
    """In markdown."""
    shares = ["of the calls", "of full blocks"]
    names = ["attack", "strength", "images", "images/s", *shares, "forwards", "backwards", "left", "note"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        cells = [row.attack, f"{row.strength:.3g}", str(row.images), _shown(row.images_per_second, ".0f")]
        cells += [f"**{_shown(row.of_calls, '.2f')}**", _shown(row.of_full, ".2f")]
        cells += [_shown(row.forwards, ".1f"), _shown(row.backwards, ".1f"), _shown(row.accuracy, ".1%")]
        lines.append("| " + " | ".join([*cells, row.note]) + " |")
    return lines


def peers_table(rows: list[Row]) -> list[str]:
    """In markdown."""
    lines = ["| attack | by | strength | images/s | accuracy left |", "|---|---|---|---|---|"]
    for row in rows:
        left = row.note or _shown(row.accuracy, ".1%")
        cells = [row.attack, row.by, f"{row.strength:.4f}", _shown(row.images_per_second, ".0f"), left]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _shown(figure: float | None, form: str) -> str:
    return "-" if figure is None else format(figure, form)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="fp32")
    parser.add_argument("--dataset", help="as the command line takes it  [default: cifar10 or its sample]")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--kinds", default=",".join(k for k in ATTACKS if "brendel" not in k), help="empty for none"
    )
    parser.add_argument("--steps", type=int, default=100, help="of the comparison with other packages")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--doc", type=Path, help="fill the tables of this document")
    options = parser.parse_args()
    device = resolve(options.device)
    data = datasets.load(options.dataset) if options.dataset else datasets.load_default()
    data = data.take(options.images)
    (name,) = model_names.parse_names(options.model)
    model = zoo.load(name, arch="resnet20", dataset=data, device=device).module
    labels = data.labels.to(device)
    size = min(block_size(data.images.shape[1:], device), len(data))
    blocks = [
        (data.pixels(slice(i, i + size), device), labels[i : i + size], range(i, min(i + size, len(data))))
        for i in range(0, len(data), size)
    ]
    where = report.facts(device) | {"network": options.model}
    compared = {"images": str(len(data)), "block": str(size), "steps": str(options.steps)}
    path = options.out / f"attacks-{device.type}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # What this run does not measure stays as it was.
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    tables = {"overhead": overhead_table, "peers": peers_table}
    work: dict[str, Iterator[Row]] = {}
    if options.kinds:
        work["overhead"] = measure(model, blocks, list(kinds(options.kinds)))
    if not options.skip_peers:
        work["peers"] = compare(model, blocks, options.steps)
    with full_precision():
        for part, rows in work.items():
            facts = where | (compared if part == "peers" else {})
            kept = {(row["attack"], row["by"]): row for row in results.get(part, {"rows": []})["rows"]}
            for row in rows:
                print(tables[part]([row])[-1], flush=True)
                kept[row.attack, row.by] = asdict(row)
                results[part] = {"where": facts, "rows": list(kept.values())}
                path.write_text(json.dumps(results, indent=1) + "\n")
    for part, result in results.items() if options.doc else ():
        lines = [report.headline(result["where"]), "", *tables[part]([Row(**row) for row in result["rows"]])]
        report.fill(options.doc, f"attacks-{part}-{device.type}", lines)


if __name__ == "__main__":
    main()
