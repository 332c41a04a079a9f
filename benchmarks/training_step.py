"""A whole training step of the ResNet-18 of the paper's authors on 32 x 32 images: time and peak memory.

    python benchmarks/training_step.py [--device cuda|cpu] [--batch 512] [--doc docs/performance.md]
    python benchmarks/training_step.py --mode eager compile reduce-overhead graphed --batch 128 512

A step is forward pass, loss, backward pass and SGD with momentum, channels_last; on a GPU it is one captured
graph. A ratio below 1 is faster, or smaller, than the ordinary network. The two networks take turns in one
process. fft50 has a nominal compression of 0.48 and fft85 one of 0.84, both with fft_size "compact"; the 1x1
shortcuts stay ordinary. Memory is the peak of an eager step with weights, gradients and momentum. Writes
training_step-DEVICE.json after every row, and a .md beside it. With `--mode` the steps are not captured as a
whole but run as people run them (`training_modes.py`); this writes training_modes-cuda.json.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import report
import torch
import training_modes
from resnet18_step import NETWORKS, PRECISIONS, Change, training_step
from timing import Step, milliseconds, ratio, reason, release, repeatable, set_precision

# (time, peak memory), as ratios to the ordinary network, that the better of plain and fused must reach.
GOALS = {"fft50": (1.0, 0.85), "fft85": (0.8, 0.6)}


@dataclass(frozen=True)
class Row:
    """The result of one network at one precision; ratios are to the ordinary network.

    They are None for the ordinary network itself. A network that cannot be measured has only a `note`.
    """

    precision: str
    network: str
    ms: float | None = None
    ratio: float | None = None
    peak_mb: float | None = None
    peak_ratio: float | None = None
    note: str = ""


def prepare(change: Change, batch: int, autocast: bool, device: torch.device) -> tuple[Step, int]:
    """Return a training step of the network that `change` makes, and its peak bytes (0 on a CPU)."""
    release()
    cuda = device.type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else 0
    step = training_step(change, batch, autocast, device, lambda model, images: model)
    if not cuda:
        return repeatable(step, device), 0
    # The same stream as the capture's: gradients are accumulated on the stream where they were first.
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
        release()
        torch.cuda.reset_peak_memory_stats()
        step()
    torch.cuda.synchronize()
    return repeatable(step, device, stream), torch.cuda.max_memory_allocated() - before


def measure(precision: str, arguments: argparse.Namespace, add: Callable[[Row], None]) -> None:
    """Call `add` with a row for the ordinary network and for each of `arguments.networks`."""
    device, autocast = torch.device(arguments.device), PRECISIONS[precision]
    set_precision("tf32")
    (batch,) = arguments.batch
    base, base_peak = prepare(lambda model: model, batch, autocast, device)
    (times,) = milliseconds([base], device, arguments.rounds)
    add(Row(precision, "ordinary", statistics.median(times), peak_mb=base_peak / 2**20 or None))
    for name in arguments.networks:
        change = NETWORKS[name]
        try:
            step, peak = prepare(change, batch, autocast, device)
            base_times, times = milliseconds([base, step], device, arguments.rounds)
        except Exception as error:  # a network that cannot be measured costs its row
            add(Row(precision, name, note=reason(error)))
            continue
        peaks = (peak / 2**20, peak / base_peak) if base_peak else (None, None)
        add(Row(precision, name, statistics.median(times), ratio(times, base_times), *peaks))
        del step


def table(rows: list[Row]) -> list[str]:
    """Return the lines of two Markdown tables: the rows, and the goals with the measured ratios."""
    lines = ["| precision | network | ms | ratio | MB | ratio |", "|---|---|---|---|---|---|"]
    for row in rows:
        figures = [_shown(row.ms, ".2f"), _shown(row.ratio, ".2f"), _shown(row.peak_mb, ".0f")]
        last = f"**{row.peak_ratio:.2f}**" if row.peak_ratio else row.note
        lines.append("| " + " | ".join([row.precision, row.network, *figures, last]) + " |")
    lines += ["", "| goal | must: time, memory | plain | fused |", "|---|---|---|---|"]
    for precision in PRECISIONS:
        for name, (must_time, must_memory) in GOALS.items():
            found = [r for r in rows if r.precision == precision and r.network.startswith(name)]
            cells = [f"{_shown(r.ratio, '.2f')}, {_shown(r.peak_ratio, '.2f')}" for r in found]
            if cells:
                lines.append(
                    f"| {name}, {precision} | {must_time:g}, {must_memory:g} | {' | '.join(cells)} |"
                )
    return lines


def _shown(figure: float | None, form: str) -> str:
    return "-" if figure is None else format(figure, form)


def main() -> None:
    """Parse the command line, measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=there, choices=["cuda", "cpu"])
    parser.add_argument("--batch", type=int, nargs="+", default=[512], help="several only with --mode")
    parser.add_argument("--mode", nargs="+", choices=list(training_modes.MODES))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=list(PRECISIONS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--doc", type=Path, help="fill the table of this document")
    arguments = parser.parse_args()
    if arguments.mode:
        training_modes.run(arguments)
        return
    if len(arguments.batch) > 1:
        parser.error("--batch takes several numbers only with --mode")
    path = arguments.out / f"training_step-{arguments.device}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    where = report.facts(torch.device(arguments.device)) | {"batch": str(arguments.batch[0])}
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        path.write_text(json.dumps({"where": where, "rows": [asdict(r) for r in rows]}, indent=1) + "\n")
        lines = [report.headline(where), "", *table(rows)]
        path.with_suffix(".md").write_text("\n".join(lines) + "\n")
        if arguments.doc:
            report.fill(arguments.doc, f"training_step-{arguments.device}", lines)
        print(row, flush=True)

    for precision in arguments.precisions:
        measure(precision, arguments, add)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
