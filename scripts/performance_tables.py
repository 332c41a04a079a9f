"""Tables of docs/performance.md and README.md, from benchmarks/results."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import attack_overhead  # noqa: E402
import goals  # noqa: E402
import report  # noqa: E402
import training_modes  # noqa: E402
import training_step  # noqa: E402
from markdown_tables import table  # noqa: E402

import attacks  # noqa: E402, TID251

RESULTS = BENCHMARKS / "results"


def all_tables() -> dict[str, Callable[[], list[str]]]:
    """Return the functions that make the tables of docs/performance.md, by the names of the tables."""
    return {
        "goals-cuda": partial(_goals, "cuda"),
        "goals-cpu": partial(_goals, "cpu"),
        "training_modes-cuda": _training_modes,
        "training_step-cuda": _training_step,
        "attacks-overhead-cuda": partial(_attacks, "overhead", attacks.overhead_table),
        "attacks-peers-cuda": partial(_attacks, "peers", attacks.peers_table),
        "convolution-cuda": partial(_convolution, "cuda"),
        "convolution-cpu": partial(_convolution, "cpu"),
    }


def layer() -> list[str]:
    """Return the README's table of time and memory with band limits, as ratios to ordinary convolutions."""
    where, rows = report.read(RESULTS / "convolution-cuda.json")
    layers = {goal.name: goal.measured(rows) for goal in goals.GOALS["cuda"]}
    steps_where, step_rows = _training_steps()
    steps = {row.network: row for row in step_rows}
    found = []
    for percent, name in (("50 %", "fft50"), ("85 %", "fft85")):
        measured, step = layers[f"TF32, {percent.replace(' ', '')}"], steps[f"{name}, fused"]
        assert measured is not None
        assert step.ratio is not None
        assert step.peak_ratio is not None
        found.append([percent, f"{measured[0]:.2f}", f"{step.ratio:.2f}", f"{step.peak_ratio:.2f}"])
    paper = layers['fft_size="paper", TF32']
    assert paper is not None
    head = ["compression", "3x3 layers, time", "training step, time", "training step, memory"]
    note = (
        f"Both were measured with TF32 and batches of 512. The layers ran on {where['device']}. The training "
        f"step ran on {steps_where['device']}, captured in one CUDA graph. These layers have "
        '`fft_size="compact"`: the FFT has the size of the padded input. The default, `"paper"`, is '
        "the larger FFT of the paper; with it, the "
        f"layers take up to {paper[0]:.2f} times as long as ordinary ones."
    )
    return [*table(head, found), "", note]


def _goals(device: str) -> list[str]:
    where, rows = report.read(RESULTS / f"convolution-{device}.json")
    return [report.headline(where), "", *goals.table(device, rows)]


def _convolution(device: str) -> list[str]:
    where, rows = report.read(RESULTS / f"convolution-{device}.json")
    return [report.headline(where), "", *report.summary(rows)]


def _training_steps() -> tuple[dict[str, str], list[training_step.Row]]:
    found = json.loads((RESULTS / "training_step-cuda.json").read_text("utf-8"))
    return found["where"], [training_step.Row(**row) for row in found["rows"]]


def _training_step() -> list[str]:
    where, rows = _training_steps()
    return [report.headline(where), "", *training_step.table(rows)]


def _training_modes() -> list[str]:
    where, rows = training_modes.read(RESULTS / "training_modes-cuda.json")
    return [report.headline(where), "", *training_modes.table(rows)]


def _attacks(part: str, lines: Callable[[list[Any]], list[str]]) -> list[str]:
    found = json.loads((RESULTS / "attacks-cuda.json").read_text("utf-8"))[part]
    return [
        report.headline(found["where"]),
        "",
        *lines([attack_overhead.Row(**row) for row in found["rows"]]),
    ]
