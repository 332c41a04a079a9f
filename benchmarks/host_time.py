"""The host time of eager steps and layers: how much of it is launches, tensors, autograd and Python.

    python benchmarks/host_time.py [--device cuda|cpu] [--batch 128] [--doc docs/performance.md]

    step    a training step (`resnet18_step.py`) as it is; without the launches and products of our kernels;
            and without their arguments too: Python, torch's allocator, autograd and kernels are left
    part    of a forward pass of a "spectral" layer in such a step (`host_parts.py`)
    alone   a convolution, and a block of convolution, BatchNorm and ReLU, of maps so small that the device is
            faster than the host
    piece   single calls

Without launches the results are wrong, but the host does the same as before. Writes host_time-DEVICE.json. On
a CPU our kernels do not run; that only checks the program.
"""

import argparse
import json
import statistics
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import report
import torch
from host_parts import CHANNELS, IMAGES, PIXELS, parts, pieces
from resnet18_step import NETWORKS, ORDINARY, training_step
from timing import Step, release, set_precision
from torch import Tensor, nn

from blconv import band_limit
from blconv.kernels.runtime.program import Program

CALLS, WARM_UP = 100, 3
HEADS = {
    "step": "whole step, ms",
    "part": 'a forward pass of a "spectral" layer in the step, us',
    "alone": "alone, us",
    "piece": "single calls, us",
}
# The measured steps, and the method of `Program` that does nothing in them.
STEPS = {"as it is": "", "without launches": "start", "without launches and their arguments": "run"}


@dataclass(frozen=True)
class Row:
    """The microseconds of `what` in one network; `kind` is a key of `HEADS`."""

    kind: str
    network: str
    what: str
    microseconds: float


def measure(arguments: Namespace) -> Iterator[Row]:
    """Yield the rows of all kinds."""
    device, names = torch.device(arguments.device), [ORDINARY, *arguments.networks]
    for what, call in pieces(device).items():
        times = [_microseconds(call, arguments.calls, device) for _ in range(arguments.rounds + 1)]
        yield Row("piece", ORDINARY, what, statistics.median(times[1:]))
    yield from _alone(device, arguments)
    steps = {name: _step(name, arguments.batch, device) for name in names}
    for name in arguments.networks:
        for what, mean in parts(steps[name], arguments.steps).items():
            yield Row("part", name, what, mean)
    for what, method in STEPS.items():
        found: dict[str, list[float]] = defaultdict(list)
        with patch.object(Program, method, lambda *_, **__: None) if method else nullcontext():
            for _ in range(arguments.rounds):  # the networks take turns
                for name, step in steps.items():
                    found[name].append(_microseconds(step, arguments.steps, device, to_end=True))
        for name, times in found.items():
            yield Row("step", name, what, statistics.median(times))


def _alone(device: torch.device, arguments: Namespace) -> Iterator[Row]:
    """Yield the median times of a convolution and of a block, forward and backward, with 0.84 dropped."""
    layout = torch.channels_last
    x = torch.randn(IMAGES, CHANNELS, PIXELS, PIXELS, device=device).to(memory_format=layout).requires_grad_()

    def block() -> nn.Sequential:
        convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        layers = nn.Sequential(convolution, nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True))
        return layers.to(device).to(memory_format=layout)

    limited = [band_limit(block(), 0.84, fft_size="compact", fuse=fuse) for fuse in (False, True)]
    for name, model in zip((ORDINARY, "fft85", "fft85, fused"), (block(), *limited), strict=True):
        for what, module in {"convolution": model[0], "block": model}.items():
            times = [_passes(module, x, arguments.calls) for _ in range(arguments.rounds + 1)]
            for n, direction in enumerate(("forward", "backward")):
                median = statistics.median(time[n] for time in times[1:])
                yield Row("alone", name, f"{what}, {direction}", median)


def _passes(module: nn.Module, x: Tensor, calls: int) -> tuple[float, float]:
    """Return the host's microseconds for a forward and for a backward pass, as means over calls in a row."""
    _synchronize(x.device)
    began = time.perf_counter()
    outputs = [module(x) for _ in range(calls)]
    between = time.perf_counter()
    gradient = torch.ones_like(outputs[0])
    _synchronize(x.device)
    start = time.perf_counter()
    torch.autograd.backward(outputs, [gradient] * calls)
    end = time.perf_counter()
    x.grad = None
    module.zero_grad()
    return 1e6 * (between - began) / calls, 1e6 * (end - start) / calls


def _step(name: str, batch: int, device: torch.device) -> Step:
    """Return the training step of a network, after some steps that compile all kernels."""
    release()
    change = NETWORKS.get(name, lambda model: model)
    step = training_step(change, batch, False, device, lambda model, images: model)
    for _ in range(WARM_UP):
        step()
    return step


def _microseconds(step: Step, count: int, device: torch.device, *, to_end: bool = False) -> float:
    """Return the host's time of a step, as a mean over `count`; `to_end`: until the device has finished."""
    _synchronize(device)
    began = time.perf_counter()
    for _ in range(count):
        step()
    if to_end:
        _synchronize(device)
    return 1e6 * (time.perf_counter() - began) / count


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def read(path: Path) -> tuple[dict[str, str], list[Row]]:
    """Return the facts and the rows of a file of results; both are empty if there is no file."""
    found = json.loads(path.read_text("utf-8")) if path.exists() else {"where": {}, "rows": []}
    return found["where"], [Row(**row) for row in found["rows"]]


def tables(rows: list[Row]) -> list[str]:
    """Return the lines of a Markdown table for each kind of rows."""
    times = {(row.kind, row.network, row.what): row.microseconds for row in rows}
    lines: list[str] = []
    for kind, head in HEADS.items():
        chosen = [row for row in rows if row.kind == kind]
        networks = list(dict.fromkeys(row.network for row in chosen))
        if not chosen:
            continue
        lines += ["", f"| {head} | " + " | ".join(networks) + " |", "|---" * (1 + len(networks)) + "|"]
        for what in dict.fromkeys(row.what for row in chosen):
            base = times.get((kind, ORDINARY, what))
            cells = [_cell(kind, times.get((kind, name, what)), base) for name in networks]
            lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines[1:]


def _cell(kind: str, microseconds: float | None, ordinary: float | None) -> str:
    """Return a time as text; that of a step in ms, and with its ratio to the ordinary network's."""
    if microseconds is None:
        return "-"
    if kind != "step":
        return f"{microseconds:.0f}"
    ratio = f", **{microseconds / ordinary:.2f}**" if ordinary and ordinary != microseconds else ""
    return f"{microseconds / 1000:.2f}{ratio}"


def main() -> None:
    """Parse the command line, measure, write the results and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=there, choices=["cuda", "cpu"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10, help="steps in a row of a measurement")
    parser.add_argument("--calls", type=int, default=CALLS, help="calls in a row of a layer or a single call")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--doc", type=Path, help="fill the table of this document")
    arguments = parser.parse_args()
    set_precision("tf32")
    where = report.facts(torch.device(arguments.device)) | {"batch": str(arguments.batch)}
    path = arguments.out / f"host_time-{arguments.device}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for row in measure(arguments):
        rows.append(row)
        path.write_text(
            json.dumps({"where": where, "rows": [asdict(r) for r in rows]}, indent=1) + "\n", "utf-8"
        )
        print(row, flush=True)
    lines = tables(rows)
    print("\n".join(lines))
    if arguments.doc:
        report.fill(arguments.doc, "host_time-cuda", [report.headline(where), "", *lines])


if __name__ == "__main__":
    main()
