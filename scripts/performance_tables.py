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
import host_time  # noqa: E402
import missed_goals  # noqa: E402
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
        "missed-goals": _missed,
        "host_time-cuda": _host_time,
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
        measured = layers[f"TF32, {percent.replace(' ', '')}"]
        assert measured is not None
        plain, fused = steps[name], steps[f"{name}, fused"]
        ratios = [measured[0], plain.ratio, plain.peak_ratio, fused.ratio, fused.peak_ratio]
        found.append([percent, *(f"{ratio:.2f}" for ratio in ratios)])
    tf32, bf16 = layers['fft_size="paper", TF32'], layers['fft_size="paper", bf16']
    assert tf32 is not None
    assert bf16 is not None
    head = ["compression (nominal)", "3x3 layers, time", "training step, time", "training step, memory"]
    head += ["step with `fuse=True`, time", "step with `fuse=True`, memory"]
    note = (
        "Layers and training steps were measured with TF32, batches of 512 and "
        '`blconv.band_limit(..., fft_size="compact")`: the FFT has the size of the padded input. `fuse=True` '
        "saves memory in training ([docs/layer.md](docs/layer.md#memory-in-training)). The nominal "
        "compressions are 0.50 and 0.85 for the layers, and 0.48 and 0.84 (`fft50` and `fft85`) for the "
        f"training steps. The layers ran on an {where['device']}, the training steps on an "
        f'{steps_where["device"]}. With the default, `fft_size="paper"` (the larger FFT of the paper), '
        f"the 3x3 layers take {tf32[0]:.2f} times as long as ordinary ones in TF32, and {bf16[0]:.2f} times "
        "as long in bf16 (means over the layers)."
    )
    return [*table(head, found), "", note]


def _goals(device: str) -> list[str]:
    where, rows = report.read(RESULTS / f"convolution-{device}.json")
    return [report.headline(where), "", *goals.table(device, rows)]


def _missed() -> list[str]:
    where, rows = report.read(RESULTS / "convolution-cuda.json")
    modes = training_modes.read(RESULTS / "training_modes-cuda.json")[1]
    host = host_time.read(RESULTS / "host_time-cuda.json")[1]
    return missed_goals.table(where, rows, modes, _training_steps()[1], host)


def _host_time() -> list[str]:
    where, rows = host_time.read(RESULTS / "host_time-cuda.json")
    if not rows:
        return ["Not measured."]
    return [report.headline(where), "", *host_time.tables(rows)]


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
