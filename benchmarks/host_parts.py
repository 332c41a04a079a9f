"""Parts of the host time of a layer: the functions that a forward pass calls, and single calls of torch."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from timing import Step
from torch import Tensor, nn
from torch.autograd import Function

import blconv.functional
import blconv.fused.block
from blconv.kernels import launches, operators
from blconv.kernels.convolution import Convolution, axes_of
from blconv.kernels.runtime.program import Program
from blconv.layers import BandLimited
from blconv.methods import spectral

IMAGES, CHANNELS, PIXELS = 8, 128, 8  # the maps of what is measured alone
# The timed functions: "layer" calls the next four, and from "node" on each calls the next.
TIMED: list[tuple[str, Any, str]] = [
    ("layer", BandLimited, "forward"),
    ("sizes", BandLimited, "geometry"),
    ("choice", blconv.functional, "choose"),
    ("choice", blconv.fused.block, "choose"),
    ("node", spectral, "_apply"),
    ("plan", Convolution, "forward"),
    ("program", Program, "run"),
    ("start", Program, "start"),
]
# A part is the time of a timed function, less that of the functions that it calls.
PARTS = {
    "all": ("layer",),
    "launches and product": ("start",),
    "their arguments": ("program", "start"),
    "tensors of the results": ("plan", "program"),
    "node of autograd": ("node", "plan"),
    "choice of the method": ("choice",),
    "sizes": ("sizes",),
    "rest": ("layer", "sizes", "choice", "node"),
}


def parts(step: Step, count: int) -> dict[str, float]:
    """Return the mean microseconds of each part of a forward pass of a "spectral" layer, over `count` steps.

    The result is empty if no layer runs on our kernels.
    """
    with clocks() as calls:
        for _ in range(count):
            step()
    found = [defaultdict(float, call) for call in calls if "plan" in call]
    return {
        part: statistics.fmean(call[whole] - sum(call[name] for name in inner) for call in found)
        for part, (whole, *inner) in PARTS.items()
        if found
    }


@contextmanager
def clocks() -> Iterator[list[dict[str, float]]]:
    """Time the functions of `TIMED` within the block; yield a list, which gets a dict for each layer's call.

    A dict has the microseconds in each function that the call has used, other functions included.
    """
    calls: list[dict[str, float]] = []
    current: list[dict[str, float]] = []  # that of the layer that runs, or nothing

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if name == "layer":
                current.append(defaultdict(float))
            began = time.perf_counter_ns()
            result = function(*arguments, **options)
            taken = (time.perf_counter_ns() - began) / 1000
            if current:
                current[-1][name] += taken
            if name == "layer":
                calls.append(current.pop())
            return result

        return run

    with ExitStack() as stack:
        for name, owner, attribute in TIMED:
            stack.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        yield calls


def pieces(device: torch.device) -> dict[str, Step]:
    """Return single calls by name: forward passes with gradients, and a launch by the ways that there are."""
    x = torch.randn(IMAGES, CHANNELS, PIXELS, PIXELS, device=device).to(memory_format=torch.channels_last)
    x.requires_grad_()
    z = torch.randn(5, IMAGES, 2 * CHANNELS, device=device)
    w = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device)
    norm = nn.BatchNorm2d(CHANNELS).to(device)
    found: dict[str, Step] = {
        "a new tensor": lambda: z.new_empty(5, IMAGES, 2 * CHANNELS),
        "`torch.bmm`": lambda: torch.bmm(z, z.mT),
        "a node of autograd with two outputs": lambda: _apply(x, z),
        "an ordinary convolution": lambda: F.conv2d(x, w, padding=1),
        "BatchNorm": lambda: norm(x),
        "ReLU": lambda: F.relu(x),
    }
    if device.type == "cuda":
        geometry = blconv.functional.geometry_of(
            (PIXELS, PIXELS), (3, 3), padding=1, compression=0.84, fft_size="compact"
        )
        axes, learnt = axes_of(geometry).filters, w.clone().requires_grad_()
        found |= {
            "a launch and its tensor": lambda: launches.pack(w, axes),
            "the same as an operator": lambda: operators.pack(w, axes),
            "the same with gradients": lambda: operators.pack(learnt, axes),
        }
    return found


class _TwoOutputs(Function):
    """A node that computes nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z)
        return x.detach(), z.detach()


_apply = super(Function, _TwoOutputs).apply
