"""A whole training step in the ways in which people run torch: eager, compiled, and with CUDA graphs.

A ratio below 1 is faster than the ordinary network in the same mode. Unlike those of a captured step, these
times include the host's. The two networks take turns, and a measurement is several steps in a row between two
events.
"""

import json
import statistics
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import report
import torch
from resnet18_step import NETWORKS, ORDINARY, PRECISIONS, training_step
from timing import Step, milliseconds, ratio, reason, release, set_precision
from torch import Tensor, nn

STEPS, WARM_UP = 10, 5
# By mode and batch: the ratio that each network must reach, in TF32. At 512 in graphs only fused ones must.
GOALS = {
    ("eager", 128): 1.25,
    ("eager", 512): 1.25,
    ("compile", 128): 1.1,
    ("reduce-overhead", 128): 0.85,
    ("graphed", 128): 0.85,
    ("graphed", 512): 0.65,
}
# By mode: the function that makes, from the model and a batch, the callable that a step calls.
MODES: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "eager": lambda model, images: model,
    "compile": lambda model, images: torch.compile(model),
    "reduce-overhead": lambda model, images: torch.compile(model, mode="reduce-overhead"),
    "graphed": lambda model, images: torch.cuda.make_graphed_callables(model, (images,)),
}


@dataclass(frozen=True)
class Row:
    """The result of one network in one mode; the ratio is to the ordinary network in the same mode.

    It is None for the ordinary network itself. A network that cannot be measured has only a `note`.
    """

    mode: str
    batch: int
    precision: str
    network: str
    ms: float | None = None
    ratio: float | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str, int, str, str]:
        """The key of this row; a new row replaces an old one with the same key."""
        return self.mode, self.batch, self.precision, self.network


def measure(mode: str, batch: int, precision: str, arguments: Namespace, add: Callable[[Row], None]) -> None:
    """Call `add` with a row for the ordinary network and for each of `arguments.networks`."""
    device, autocast = torch.device("cuda"), PRECISIONS[precision]
    set_precision("tf32")
    torch.compiler.reset()

    def prepared(name: str) -> Step:
        release()
        step = training_step(NETWORKS.get(name, lambda m: m), batch, autocast, device, MODES[mode])
        for _ in range(WARM_UP):
            step()
        return lambda: [step() for _ in range(STEPS)]

    base = prepared(ORDINARY)
    (times,) = milliseconds([base], device, arguments.rounds)
    add(Row(mode, batch, precision, ORDINARY, statistics.median(times) / STEPS))
    for name in arguments.networks:
        try:
            step = prepared(name)
            base_times, times = milliseconds([base, step], device, arguments.rounds)
        except Exception as error:  # a network that cannot be measured costs its row
            add(Row(mode, batch, precision, name, note=reason(error)))
            continue
        add(Row(mode, batch, precision, name, statistics.median(times) / STEPS, ratio(times, base_times)))
        del step


def read(path: Path) -> tuple[dict[str, str], list[Row]]:
    """Return the facts and the rows of a file of results; both are empty if there is no file."""
    found = json.loads(path.read_text("utf-8")) if path.exists() else {"where": {}, "rows": []}
    return found["where"], [Row(**row) for row in found["rows"]]


def run(arguments: Namespace) -> None:
    """Measure all modes and batches, write the results after each row and print the table.

    Rows that the file has from the same GPU and versions stay unless they are measured again.
    """
    path = arguments.out / "training_modes-cuda.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    where = report.facts(torch.device("cuda"))
    earlier, old = read(path)
    rows = {row.key: row for row in old} if earlier == where else {}

    def add(row: Row) -> None:
        rows[row.key] = row
        found = {"where": where, "rows": [asdict(r) for r in rows.values()]}
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        if arguments.doc:
            report.fill(
                arguments.doc, "training_modes-cuda", [report.headline(where), "", *table([*rows.values()])]
            )
        print(row, flush=True)

    for precision in arguments.precisions:
        for mode in arguments.mode:
            for batch in arguments.batch:
                measure(mode, batch, precision, arguments, add)
    print("\n".join(table([*rows.values()])))


def table(rows: list[Row]) -> list[str]:
    """Return the lines of a Markdown table: a row per mode, batch and precision, a column per network."""
    names = [ORDINARY, *NETWORKS]
    lines = ["| mode | batch | precision | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    found = {row.key: row for row in rows}
    for mode, batch, precision in sorted(
        {row.key[:3] for row in rows}, key=lambda k: ([*PRECISIONS].index(k[2]), [*MODES].index(k[0]), k[1])
    ):
        cells = [_cell(found.get((mode, batch, precision, name))) for name in names]
        lines.append(f"| {mode} | {batch} | {precision} | " + " | ".join(cells) + " |")
    return lines


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.ms is None:
        return row.note
    return f"{row.ms:.2f} ms" if row.ratio is None else f"{row.ms:.2f} ms, **{row.ratio:.2f}**"
