"""The goals of the layer, beside the measured values.

Time is that of forward and backward pass on a GPU, and of the forward pass on a CPU. It is a ratio to the
faster ordinary convolution of the same precision, as a geometric mean over the layers. Our method is `auto`,
in the faster of the two layouts, the same one for all layers of a goal. "saved" is the size of the tensors
kept for the backward pass, divided by that of the input. The band has min(1, (2k - 1)^2 / HW) of the input's
numbers.
"""

import math
from dataclasses import dataclass
from itertools import chain

from case import Case, Row
from shapes import AUTHORS, GROUPS, WIDE, Cut

OURS = ("auto NCHW", "auto channels_last")
LAYERS = {str(layer): layer for group in GROUPS.values() for layer in group.layers}


@dataclass(frozen=True)
class Goal:
    """A required and a desired value; the worst of the goal's cuts counts."""

    name: str
    must: float
    aim: float | None
    precision: str
    cuts: tuple[Cut, ...]
    group: str = WIDE
    batch: int = 512
    passes: str = "both"
    quantity: str = "time"

    def measured(self, rows: list[Row]) -> tuple[float, str] | None:
        """Return the measured value and its layout, or None if a layer of the goal is not measured."""
        found = []
        for peer in OURS:
            values = [self._of_cut(cut, peer, rows) for cut in self.cuts]
            if all(values):
                found.append((max(value for value in values if value), peer.removeprefix("auto ")))
        return min(found, default=None)

    def _of_cut(self, cut: Cut, peer: str, rows: list[Row]) -> float | None:
        cell = (self.group, self.precision, self.batch, self.passes, cut.compression, cut.fft_size, peer)
        chosen = [
            row
            for row in rows
            if (row.group, row.precision, row.batch, row.passes, row.compression, row.fft_size, row.peer)
            == cell
            and row.ms is not None
        ]
        if len(chosen) < len(GROUPS[self.group].layers):
            return None
        if self.quantity == "time":
            return math.exp(sum(math.log(row.ratio or math.nan) for row in chosen) / len(chosen))
        if self.quantity == "launch":
            return max(1000 * (row.ms or math.nan) for row in chosen)
        if self.quantity == "saved at 32 pixels":
            return next(row.saved for row in chosen if LAYERS[row.layer].size == 32)
        return max((row.saved or math.nan) / _share_kept(row.layer, cut) for row in chosen)


def _share_kept(layer: str, cut: Cut) -> float:
    """Return the real degrees of freedom of the band, (2k - 1)^2, per number of the input; at most 1."""
    axes = LAYERS[layer].geometry(cut).band.axes
    return min(1.0, math.prod((2 * axis.kept - 1) / axis.length for axis in axes))


def _times(
    name: str,
    precision: str,
    figures: dict[Cut, tuple[float, float]],
    *,
    group: str = WIDE,
    batch: int = 512,
    passes: str = "both",
) -> list[Goal]:
    """Return a goal for each cut, from its (must, aim)."""
    return [
        Goal(f"{name}, {cut.compression:.0%}", must, aim, precision, (cut,), group, batch, passes)
        for cut, (must, aim) in figures.items()
    ]


HALF, THREE_QUARTERS, MOST = Cut(0.5, "compact"), Cut(0.75, "compact"), Cut(0.85, "compact")
FFT50, FFT85 = Cut(0.48, "compact"), Cut(0.84, "compact")
PAPER = (Cut(0.5, "paper"), Cut(0.85, "paper"))
GOALS = {
    "cuda": [
        *_times("TF32", "tf32", {HALF: (0.6, 0.45), THREE_QUARTERS: (0.45, 0.33), MOST: (0.27, 0.2)}),
        *_times("TF32, batch 128", "tf32", {HALF: (0.8, 0.6), MOST: (0.42, 0.3)}, batch=128),
        *_times("bf16", "bf16", {HALF: (0.85, 0.65), MOST: (0.5, 0.38)}),
        *_times("strict fp32", "strict", {HALF: (0.35, 0.25), MOST: (0.12, 0.08)}),
        *_times("authors' shapes, TF32", "tf32", {FFT50: (0.75, 0.55), FFT85: (0.45, 0.33)}, group=AUTHORS),
        *_times("authors' shapes, bf16", "bf16", {FFT50: (1.1, 0.85), FFT85: (0.8, 0.5)}, group=AUTHORS),
        Goal('fft_size="paper", TF32', 1.35, 1.15, "tf32", PAPER),
        Goal('fft_size="paper", bf16', 1.5, 1.2, "bf16", PAPER),
        Goal("saved at 32 pixels, 50%", 0.56, None, "tf32", (HALF,), quantity="saved at 32 pixels"),
        Goal("saved at 32 pixels, 85%", 0.15, None, "tf32", (MOST,), quantity="saved at 32 pixels"),
        Goal("saved / band", 1.0, None, "tf32", (HALF, THREE_QUARTERS, MOST), quantity="saved"),
        Goal("authors' shapes, saved / band", 1.0, None, "tf32", (FFT50, FFT85), AUTHORS, quantity="saved"),
        Goal(
            "eager launch, us of host time", 150, 60, "tf32", (FFT50, FFT85), AUTHORS, 8, "launch", "launch"
        ),
    ],
    "cpu": _times(
        "CPU, forward", "strict", {HALF: (1.0, 0.7), MOST: (0.3, 0.2)}, batch=32, passes="forward"
    ),
}  # fmt: skip


def cases(device: str, rounds: int, bandwidth: float) -> list[Case]:
    """Return the cases that the goals of a device need."""
    cuts: dict[tuple[str, str, int, str], dict[Cut, None]] = {}
    for goal in GOALS[device]:
        where = (goal.group, goal.precision, goal.batch, goal.passes)
        cuts.setdefault(where, {}).update(dict.fromkeys(goal.cuts))
    return [
        Case(group, layer, precision, batch, tuple(wanted), OURS, passes, device, bandwidth, rounds)
        for (group, precision, batch, passes), wanted in cuts.items()
        for layer in GROUPS[group].layers
    ]


def table(device: str, rows: list[Row]) -> list[str]:
    """Return the table of the goals in Markdown, including those not measured."""
    lines = ["| goal | must | aim | measured | layout | |", "|---|---|---|---|---|---|"]
    for goal in GOALS[device]:
        figure = goal.measured(rows)
        value, layout = (f"**{figure[0]:.3g}**", figure[1]) if figure else ("-", "")
        verdict = "" if figure is None else "met" if figure[0] <= goal.must else "missed"
        aim = "" if goal.aim is None else f"{goal.aim:g}"
        lines.append(f"| {goal.name} | {goal.must:g} | {aim} | {value} | {layout} | {verdict} |")
    return lines


assert len(LAYERS) == len(set(chain.from_iterable(group.layers for group in GROUPS.values())))
