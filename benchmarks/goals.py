"""The goals of the band-limited layer, beside the measured values.

Time is that of forward and backward pass on a GPU, and of the forward pass on a CPU. It is a ratio to the
faster ordinary convolution of the same precision, as a geometric mean over the layers. Our method is "auto",
in the faster of the two layouts, the same one for all layers of a goal. "saved" is the size of the tensors
kept for the backward pass, divided by that of the input. "saved / band" divides this by the share of the
input's numbers that the band needs: min(1, (2k - 1)^2 / (H * W)) for k kept frequencies on each axis.
"""

import math
from dataclasses import astuple, dataclass
from itertools import chain

from case import Case, Row
from report import key
from shapes import AUTHORS, BOTH_SIZES, GROUPS, WIDE, Cut

OURS = ("auto NCHW", "auto channels_last")
LAYERS = {str(layer): layer for group in GROUPS.values() for layer in group.layers}


@dataclass(frozen=True)
class Goal:
    """A required value (`must`) and a desired one (`aim`) of a `quantity`; the worst of the cuts counts."""

    name: str
    must: float
    aim: float | None
    precision: str
    cuts: tuple[Cut, ...]
    groups: tuple[str, ...] = (WIDE,)
    batch: int | None = None
    passes: str = "both"
    quantity: str = "time"

    def batch_of(self, group: str) -> int:
        """Return the batch size of the goal, or by default that of the group."""
        return GROUPS[group].batch if self.batch is None else self.batch

    def measured(self, rows: list[Row]) -> tuple[float, str] | None:
        """Return the value in the better layout, and this layout; None if a layer was not measured."""
        found = []
        for peer in OURS:
            values = [self._of_cut(cut, peer, rows) for cut in self.cuts]
            if all(values):
                found.append((max(value for value in values if value), peer.removeprefix("auto ")))
        return min(found, default=None)

    def _of_cut(self, cut: Cut, peer: str, rows: list[Row]) -> float | None:
        wanted = {
            (group, str(layer), self.precision, self.batch_of(group), self.passes, *astuple(cut), peer)
            for group in self.groups
            for layer in GROUPS[group].layers
        }
        chosen = [row for row in rows if key(row) in wanted and row.ms is not None]
        if len(chosen) < len(wanted):
            return None
        if self.quantity == "time":
            return math.exp(sum(math.log(row.ratio or math.nan) for row in chosen) / len(chosen))
        if self.quantity == "launch":
            return max(1000 * (row.ms or math.nan) for row in chosen)
        if self.quantity == "memory":
            ratios = [row.peak_ratio for row in chosen if row.peak_ratio is not None]
            return max(ratios) if len(ratios) == len(chosen) else None
        if self.quantity == "saved at 32 pixels":
            return next(row.saved for row in chosen if LAYERS[row.layer].size == 32)
        return max((row.saved or math.nan) / _share_kept(row.layer, cut) for row in chosen)


def _share_kept(layer: str, cut: Cut) -> float:
    """Return the band's real degrees of freedom, divided by the number of pixels of the input; at most 1.

    For k kept frequencies on each axis there are (2k - 1)^2 degrees of freedom per channel.
    """
    axes = LAYERS[layer].geometry(cut).band.axes
    return min(1.0, math.prod((2 * axis.kept - 1) / axis.length for axis in axes))


def _times(
    name: str,
    precision: str,
    figures: dict[Cut, tuple[float, float]],
    *,
    group: str = WIDE,
    batch: int | None = None,
    passes: str = "both",
) -> list[Goal]:
    """Return a goal for each cut in `figures`, which has the pair (must, aim) of each cut."""
    return [
        Goal(f"{name}, {cut.compression:.0%}", must, aim, precision, (cut,), (group,), batch, passes)
        for cut, (must, aim) in figures.items()
    ]


HALF, THREE_QUARTERS, MOST = Cut(0.5, "compact"), Cut(0.75, "compact"), Cut(0.85, "compact")
FFT50, FFT85 = Cut(0.48, "compact"), Cut(0.84, "compact")
PAPER = (Cut(0.5, "paper"), Cut(0.85, "paper"))
LARGE, AUTHORS_ONLY = ("large maps",), (AUTHORS,)
SMALL_MAPS = ("Wide ResNet-28-10", "DenseNet, growth 12", "ResNet-20")
GOALS = {
    "cuda": [
        *_times("TF32", "tf32", {HALF: (0.6, 0.45), THREE_QUARTERS: (0.45, 0.33), MOST: (0.27, 0.2)}),
        *_times("TF32, batch 128", "tf32", {HALF: (0.8, 0.6), MOST: (0.42, 0.3)}, batch=128),
        *_times("bf16", "bf16", {HALF: (0.85, 0.6), MOST: (0.5, 0.35)}),
        *_times("strict fp32", "strict", {HALF: (0.35, 0.25), MOST: (0.12, 0.08)}),
        *_times("authors' shapes, TF32", "tf32", {FFT50: (0.75, 0.5), FFT85: (0.45, 0.3)}, group=AUTHORS),
        *_times("authors' shapes, bf16", "bf16", {FFT50: (1.1, 0.65), FFT85: (0.8, 0.45)}, group=AUTHORS),
        *_times("ResNet-50, TF32", "tf32", {HALF: (0.9, 0.7), MOST: (0.36, 0.28)}, group="ResNet-50"),
        *chain.from_iterable(
            _times(f"{group}, TF32", "tf32", {HALF: (0.6, 0.5), MOST: (0.36, 0.28)}, group=group)
            for group in SMALL_MAPS
        ),
        *_times("large maps, TF32", "tf32", {HALF: (1.5, 1.1), MOST: (1.5, 1.1)}, group="large maps"),
        Goal("large maps, memory", 2.0, None, "tf32", BOTH_SIZES, LARGE, quantity="memory"),
        Goal('fft_size="paper", TF32, other networks', 1.2, 1.1, "tf32", PAPER, ("ResNet-50", *SMALL_MAPS)),
        Goal('fft_size="paper", TF32', 1.35, 1.15, "tf32", PAPER),
        Goal('fft_size="paper", bf16', 1.5, 1.2, "bf16", PAPER),
        Goal("saved at 32 pixels, 50%", 0.56, None, "tf32", (HALF,), quantity="saved at 32 pixels"),
        Goal("saved at 32 pixels, 85%", 0.15, None, "tf32", (MOST,), quantity="saved at 32 pixels"),
        Goal("saved / band", 1.0, None, "tf32", (HALF, THREE_QUARTERS, MOST), quantity="saved"),
        Goal(
            "authors' shapes, saved / band", 1.0, None, "tf32", (FFT50, FFT85), AUTHORS_ONLY,
            quantity="saved",
        ),
        Goal(
            "eager launch, us of host time", 150, 60, "tf32", (FFT50, FFT85), AUTHORS_ONLY,
            8, "launch", "launch",
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
        for group in goal.groups:
            where = (group, goal.precision, goal.batch_of(group), goal.passes)
            cuts.setdefault(where, {}).update(dict.fromkeys(goal.cuts))
    return [
        Case(group, layer, precision, batch, tuple(wanted), OURS, passes, device, bandwidth, rounds)
        for (group, precision, batch, passes), wanted in cuts.items()
        for layer in GROUPS[group].layers
    ]


def table(device: str, rows: list[Row]) -> list[str]:
    """Return the lines of the Markdown table of all goals, including those that were not measured."""
    lines = ["| goal | must | aim | measured | layout | |", "|---|---|---|---|---|---|"]
    for goal in GOALS[device]:
        figure = goal.measured(rows)
        value, layout = (f"**{figure[0]:.3g}**", figure[1]) if figure else ("-", "")
        verdict = "" if figure is None else "met" if figure[0] <= goal.must else "missed"
        aim = "" if goal.aim is None else f"{goal.aim:g}"
        lines.append(f"| {goal.name} | {goal.must:g} | {aim} | {value} | {layout} | {verdict} |")
    return lines


assert len(LAYERS) == len(set(chain.from_iterable(group.layers for group in GROUPS.values())))
