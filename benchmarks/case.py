"""One case: a layer at one precision, measured with every peer beside the faster ordinary convolution."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from peers import BASES, CHANNELS_LAST, PEERS, Peer, chosen
from shapes import Cut, Layer
from timing import (
    PRECISIONS,
    Step,
    exclusive,
    launch_microseconds,
    milliseconds,
    peak_bytes,
    ratio,
    reason,
    release,
    repeatable,
    saved_bytes,
    set_precision,
)  # fmt: skip
from torch import Tensor

from blconv import BandLimitedConv2d

NOTHING = Cut(0.0, "compact")
SMALL = 8  # batch size for compiling, and for host times


@dataclass(frozen=True)
class Case:
    """The settings of one measurement. `passes` is "forward", "both" (with backward) or "launch".

    `peers` are keys of `peers.PEERS`. `bandwidth` is that of a copy on the device: bytes read plus bytes
    written, per second.
    """

    group: str
    layer: Layer
    precision: str
    batch: int
    cuts: tuple[Cut, ...]
    peers: tuple[str, ...]
    passes: str
    device: str
    bandwidth: float
    rounds: int


@dataclass(frozen=True)
class Row:
    """The results of one peer; None for a missing number, with the reason in `note`.

    `ms` is the median time, and `ratio` its ratio to that of the faster ordinary convolution, which is named
    by `base`. `peak_mb` is memory beyond inputs, weights and incoming gradients. `saved` is the size of the
    tensors kept for the backward pass, divided by that of the input. `roofline` is the time of moving the
    bytes that any method must move, divided by the measured time.
    """

    group: str
    layer: str
    precision: str
    batch: int
    passes: str
    compression: float
    fft_size: str
    peer: str
    ms: float | None = None
    ratio: float | None = None
    base: str = ""
    peak_mb: float | None = None
    peak_ratio: float | None = None
    saved: float | None = None
    roofline: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Prepared:
    """A step, its peak memory in bytes, and the bytes it saves for backward, divided by the input's.

    The last two are None where they are not measured.
    """

    step: Step
    peak: int | None
    saved: float | None


def measure(case: Case) -> Iterator[Row]:
    """Yield the rows of a case, each as soon as it is measured."""
    set_precision(case.precision)
    yield from _launches(case) if case.passes == "launch" else _times(case)


def _times(case: Case) -> Iterator[Row]:
    device, layer = torch.device(case.device), case.layer
    at = (case.group, str(layer), case.precision, case.batch, case.passes)
    floor = 1000 * _bytes_to_move(case) / case.bandwidth

    def row(
        cut: Cut, peer: str, mine: Prepared, times: list[float], base_times: list[float], note: str
    ) -> Row:
        ms = statistics.median(times)
        return Row(
            *at, cut.compression, str(cut.fft_size), peer, ms=_digits(ms),
            ratio=_digits(ratio(times, base_times)), base=base,
            peak_mb=None if mine.peak is None else _digits(mine.peak / 2**20),
            peak_ratio=_digits(mine.peak / best.peak) if mine.peak and best.peak else None,
            saved=None if mine.saved is None else _digits(mine.saved),
            roofline=_digits(floor / ms), note=note,
        )  # fmt: skip

    with exclusive(device):
        bases = {
            name: _prepare(peer, case, NOTHING, case.batch)
            for name, peer in BASES.items()
            if layer.dims == 2 or peer.layout is not CHANNELS_LAST
        }
        steps = {name: repeatable(found.step, device) for name, found in bases.items()}
        times = dict(zip(bases, milliseconds(list(steps.values()), device, case.rounds), strict=True))
    base = min(times, key=lambda name: statistics.median(times[name]))
    best, base_step = bases[base], steps[base]
    yield from (row(NOTHING, name, bases[name], times[name], times[base], "") for name in bases)
    steps.clear()

    for cut, name in product(case.cuts, case.peers):
        peer = PEERS[name]
        if layer.dims == 1 and peer.layout is CHANNELS_LAST:
            continue
        try:
            _prepare(peer, case, cut, min(case.batch, SMALL))  # kernels compile while others measure
            with exclusive(device):
                mine = _prepare(peer, case, cut, case.batch)
                pair = [base_step, repeatable(mine.step, device)]
                base_times, own_times = milliseconds(pair, device, case.rounds)
            dtype = PRECISIONS[case.precision]
            method = chosen("auto", layer, cut, case.batch, dtype, device) if name.startswith("auto") else ""
            yield row(cut, name, mine, own_times, base_times, method)
        except Exception as error:  # whatever a peer cannot do costs its own cell
            yield Row(*at, cut.compression, str(cut.fft_size), name, note=reason(error))
        mine, pair = best, []
        release()


def _prepare(peer: Peer, case: Case, cut: Cut, batch: int) -> Prepared:
    """Return a step of `peer` on new random input, with its memory; the step has run at least once."""
    layer, device = case.layer, torch.device(case.device)
    weight_shape, weight_dtype = layer.weight_shape, PRECISIONS[case.precision]
    x = torch.randn(layer.input_shape(batch), dtype=weight_dtype, device=device)
    if peer.spectral_weight:
        modes = layer.geometry(cut).band.kept_shape
        weight_shape, weight_dtype = (layer.channels, layer.out_channels, *modes), torch.complex64
    weight = torch.randn(weight_shape, dtype=weight_dtype, device=device)
    if peer.layout is CHANNELS_LAST:
        x, weight = (t.contiguous(memory_format=CHANNELS_LAST) for t in (x, weight))

    def forward() -> Tensor:
        with torch.inference_mode():
            return peer.function(x, weight, layer, cut)

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(peer.function(x, weight, layer, cut), (x, weight), gradient)

    gradient = torch.randn_like(forward())
    if case.passes == "forward":
        return Prepared(forward, peak_bytes(forward, device), None)
    x.requires_grad_()
    weight.requires_grad_()
    both()
    saved = saved_bytes(lambda own: peer.function(own, weight, layer, cut), x) / x.nbytes
    return Prepared(both, peak_bytes(both, device), saved)


def _bytes_to_move(case: Case) -> int:
    """Return the bytes that every method must read or write: each of x, weight and y once.

    With backward, also each of their gradients once, and the weight once more.
    """
    layer = case.layer
    inputs, weights = math.prod(layer.input_shape(case.batch)), math.prod(layer.weight_shape)
    outputs = case.batch * layer.out_channels * math.prod(layer.geometry(NOTHING).out)
    numbers = inputs + weights + outputs
    if case.passes == "both":
        numbers = 2 * numbers + weights  # backward: dy and the weight are read, dx and dw written
    return numbers * PRECISIONS[case.precision].itemsize


def _launches(case: Case) -> Iterator[Row]:
    """Yield rows with the host time of one eager forward pass, of the ordinary layer and of ours."""
    device, layer = torch.device(case.device), case.layer
    at = (case.group, str(layer), case.precision, SMALL, "launch")
    x = torch.randn(layer.input_shape(SMALL), device=device).contiguous(memory_format=CHANNELS_LAST)
    sizes = (layer.channels, layer.out_channels, layer.kernel, layer.stride, layer.padding)
    for name, cut in [("ordinary", NOTHING), *(("auto", cut) for cut in case.cuts)]:
        module = BandLimitedConv2d(*sizes, compression=cut.compression, fft_size=cut.fft_size)
        module = module.to(device).to(memory_format=CHANNELS_LAST)
        for _ in range(3):
            module(x)
        with exclusive(device):
            microseconds = launch_microseconds(lambda module=module: module(x))
        yield Row(
            *at, cut.compression, str(cut.fft_size), f"{name} channels_last", ms=_digits(microseconds / 1000)
        )


def _digits(value: float) -> float:
    """Return a number rounded to four significant digits; further digits are noise."""
    return float(f"{value:.4g}")
