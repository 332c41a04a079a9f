"""The goals that are missed: measured value, a bound, and what limits it.

The bound of a layer is the time of the bytes that its method moves, at the bandwidth of a copy, as a ratio to
the ordinary convolution. "spectral" moves the numbers of the input x and of the output y twice (also as
gradients), their kept coefficients five times (once more for the gradient of the filters), and the matrices
made from the filters six times. "lowpass" is an ordinary convolution, and its filter moves the input and the
filtered input twice. Caches can make both faster.
"""

import math
from collections.abc import Iterable
from dataclasses import astuple

import goals
import host_time
import training_modes
import training_step
from case import Row
from goals import Goal
from report import Facts, key
from resnet18_step import ORDINARY
from shapes import GROUPS, Cut, Layer
from timing import PRECISIONS

from blconv.kernels.transforms.fragments import coefficient_count, part_count

# What limits a goal; docs/performance.md explains each word and says what was tried.
LIMITS = {
    **dict.fromkeys(["TF32, 50%", "TF32, 75%", "TF32, 85%", "ResNet-50, TF32, 85%"], "transforms"),
    "ResNet-50, TF32, 50%": "filters, planes",
    "Wide ResNet-28-10, TF32, 50%": "filters",
    **dict.fromkeys(["DenseNet, growth 12, TF32, 85%", "ResNet-20, TF32, 85%"], "short kernels"),
    **dict.fromkeys(['fft_size="paper", TF32, other networks', 'fft_size="paper", TF32'], "low-pass"),
    **dict.fromkeys(["saved / band", "authors' shapes, saved / band"], "mean"),
    "eager launch, us of host time": "host",
}
MODE_LIMITS = {
    ("eager", 128): "host",
    ("eager", 512): "host",
    ("compile", 128): "operators",
    ("reduce-overhead", 128): "loss and optimizer",
    ("graphed", 128): "loss and optimizer",
    ("graphed", 512): "device",
}
HOST_GOALS = {"convolution, forward": 60, "convolution, backward": 80}  # us of a layer alone, with gradients


def table(
    where: Facts,
    rows: list[Row],
    modes: list[training_modes.Row],
    steps: list[training_step.Row],
    host: list[host_time.Row],
) -> list[str]:
    """Return the lines of the Markdown table of missed goals.

    `where` and `rows` are results of `convolution.py`; the others are those of the modules in their types.
    """
    lines = ["| goal | must | measured | bound | limited by |", "|---|---|---|---|---|"]

    def add(name: str, must: float, measured: str, bound: str, limits: str) -> None:
        lines.append(f"| {name} | {must:g} | {measured} | {bound or '-'} | {limits} |")

    bandwidth = 1e9 * float(where["copy"].split()[0])
    for goal in goals.GOALS["cuda"]:
        found = goal.measured(rows)
        if found and found[0] > goal.must:
            bound = _bound(goal, rows, bandwidth, found[1]) if goal.quantity == "time" else ""
            add(goal.name, goal.must, f"{found[0]:.3g}", bound, LIMITS[goal.name])
    for (mode, batch), must in training_modes.GOALS.items():
        chosen = [row for row in modes if (row.mode, row.batch, row.precision) == (mode, batch, "tf32")]
        whole = (mode, batch) == ("graphed", 512)
        missed = [
            row.ratio for row in chosen
            if row.ratio and row.ratio > must and ("fused" in row.network or not whole)
        ]  # fmt: skip
        if missed:
            bound = _span(row.ratio for row in steps if row.ratio and "fused" in row.network) if whole else ""
            bound = _without_launches(host) if mode == "eager" else bound
            add(f"{mode}, batch {batch}", must, _span(missed), bound, MODE_LIMITS[mode, batch])
    alone = {row.what: row.microseconds for row in host if (row.kind, row.network) == ("alone", "fft85")}
    for what, must in HOST_GOALS.items():
        if alone.get(what, 0.0) > must:
            add(f"{what}, us of host time", must, f"{alone[what]:.0f}", "", "host")
    return lines


def _bound(goal: Goal, rows: list[Row], bandwidth: float, layout: str) -> str:
    """Return the bound of a goal's time, as a mean over its layers, of the cut with the largest."""
    by_key, precision = {key(row): row for row in rows}, PRECISIONS[goal.precision]
    means = []
    for cut in goal.cuts:
        found = []
        for group in goal.groups:
            batch = goal.batch_of(group)
            for layer in GROUPS[group].layers:
                at = (group, str(layer), goal.precision, batch, goal.passes, *astuple(cut), f"auto {layout}")
                row = by_key[at]
                assert row.ms
                assert row.ratio
                ordinary = row.ms / row.ratio
                moved = precision.itemsize * _numbers(layer, cut, batch, row.note) / bandwidth
                found.append(1000 * moved / ordinary + (row.note == "lowpass"))
        means.append(math.exp(sum(map(math.log, found)) / len(found)))
    return f"{max(means):.2g}"


def _numbers(layer: Layer, cut: Cut, batch: int, method: str) -> int:
    """Return how many numbers the method "spectral" or "lowpass" moves, the latter for its filter alone."""
    geometry = layer.geometry(cut)
    inputs = batch * layer.channels * math.prod(geometry.input)
    if method == "lowpass":
        return 2 * (inputs + batch * layer.channels * math.prod(axis.padded for axis in geometry.band.axes))
    rows, columns = geometry.band.axes
    count = coefficient_count(rows.kept, columns.kept)
    parts = part_count(count)
    coefficients = batch * count * parts * (layer.channels + layer.out_channels)
    matrices = count * parts**2 * layer.channels * layer.out_channels
    pixels = inputs + batch * layer.out_channels * math.prod(geometry.out)
    return 2 * pixels + 5 * coefficients + 6 * matrices


def _without_launches(host: list[host_time.Row]) -> str:
    """Return the ratios of steps without launches and their arguments to the ordinary step, as text."""
    what = list(host_time.STEPS)[-1]
    times = {row.network: row.microseconds for row in host if (row.kind, row.what) == ("step", what)}
    return _span(time / times[ORDINARY] for name, time in times.items() if name != ORDINARY)


def _span(values: Iterable[float]) -> str:
    """Return the smallest and the largest value as text, once if they are equal; "" if there are none."""
    found = sorted(f"{value:.2f}" for value in values)
    return " to ".join(dict.fromkeys(found[:1] + found[-1:]))
