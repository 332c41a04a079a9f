"""The choice of the method that computes a convolution: the one that is named, or the cheapest."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from blconv.geometry import Geometry
from blconv.kernels.limits import has_dense_kernels, has_spectral_kernels, runs_operators
from blconv.methods import dense, lowpass, paper, spectral
from blconv.methods.gpu_cost import microseconds

Method = Literal["auto", "lowpass", "spectral", "dense", "paper"]

METHODS: dict[str, Callable[[Tensor, Tensor, Geometry], Tensor]] = {
    "lowpass": lowpass.convolve,
    "spectral": spectral.convolve,
    "dense": dense.convolve,
    "paper": paper.convolve,
}
DENSE_PIXELS = 9  # pixels of a map, at most, for which "auto" compares "dense" on the CPU: 3 x 3
DENSE_NUMBERS = 2**24  # entries of the matrix of "dense", at most, if this method is chosen by name
CPU_BATCH = 64  # images that share the transform of the filters
FULL_PRECISION = (torch.float32, torch.float64)


def check_method(method: str) -> None:
    """Raise `ValueError` unless `method` is "auto" or the name of a method."""
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")


@dataclass(frozen=True)
class Choice:
    """A method and the reason for it.

    The reason is the text `words`. If it is empty, the reason consists of the
    `costs`: the cost per image, in `unit`, of each method that was compared.
    """

    method: str
    words: str = ""
    costs: dict[str, float] = field(default_factory=dict)
    unit: str = ""

    @property
    def reason(self) -> str:
        """The reason in one line of text."""
        costs = ", ".join(f"{name} {cost:.3g}" for name, cost in self.costs.items())
        return self.words or f"{self.unit} per image: {costs}"


def choose(x: Tensor, weight: Tensor, geometry: Geometry, method: Method = "auto") -> Choice:
    """Return the method that computes the convolution of x (batch, C, [H,] W) with `weight`.

    If `method` names one that does not support this convolution, the result is "lowpass". On the CPU, "auto"
    selects the method with the fewest multiply-adds. On CUDA, "auto" selects the method with the shortest
    time, estimated from bytes and operations (`blconv.methods.gpu_cost`). It compares "lowpass", the methods
    whose CUDA kernels support these sizes, and, for 2D convolutions of one group in float32, "spectral" on
    torch's products. On other devices, "auto" selects "lowpass". If `geometry` drops no frequency, the result
    is "ordinary".
    """
    kind = "cuda" if weight.is_cuda else weight.device.type  # a device makes this string at each call
    arguments: Any = (
        x.numel() == 0 or weight.numel() == 0, x.shape[1:], weight.shape, x.dtype, weight.dtype,
        torch.get_autocast_dtype(kind) if _is_autocast(kind) else None, kind, geometry, method,
    )  # fmt: skip
    # `torch.compile` traces the arithmetic. In eager code the cache saves tens of microseconds.
    if torch.compiler.is_compiling():
        return _choose(torch.backends.cuda.matmul.allow_tf32, *arguments)
    # The function that the property calls, in a tenth of its time, and what `runs_operators` reads.
    tf32, transformed = torch._C._get_cublas_allow_tf32(), torch._C._are_functorch_transforms_active()
    return _cached_choice(transformed, tf32, *arguments)


def _choose(
    allow_tf32: bool,
    empty: bool,
    size: tuple[int, ...],
    filters: tuple[int, ...],
    dtype: torch.dtype,
    weight_dtype: torch.dtype,
    autocast: torch.dtype | None,
    kind: str,
    geometry: Geometry,
    method: Method,
) -> Choice:
    """Return the result of `choose` from hashable arguments, which are the key of a cache.

    `size` is x's shape (C, [H,] W) and `filters` the weight's shape. `empty` states whether x or the weight
    has no elements. `autocast` is autocast's dtype, or None if it is off. `kind` is the type of the device.
    """
    if not geometry.band.is_cut:
        return Choice("ordinary", "nothing is cut: the ordinary convolution")
    if method == "lowpass":
        return Choice("lowpass", "chosen by name")
    fits = size[0] == filters[1] * geometry.groups and min(geometry.out) >= 1
    if empty or not fits or (dtype != weight_dtype and autocast is None):
        return Choice("lowpass", "the general path, whose errors are torch's")
    if method == "dense" and math.prod(size) * filters[0] * math.prod(geometry.out) > DENSE_NUMBERS:
        return Choice("lowpass", "the matrix of dense would be larger than 64 MB")
    if geometry.groups > 1 and method in ("dense", "paper"):
        return Choice("lowpass", f"{method} has no groups")
    if method == "paper" and (dtype not in FULL_PRECISION or autocast is not None):
        return Choice("lowpass", "paper needs float32 or float64: there is no transform in half precision")
    if method != "auto":
        return Choice(method, "chosen by name")
    if kind == "cpu":
        costs = multiply_adds(filters, geometry)
        return _cheapest(costs, _cpu_methods(geometry), "million multiply-adds", 1e6)
    dtype, members, ours = autocast or dtype, ["lowpass"], runs_operators(torch.device(kind))
    planes = geometry.dims == 2 and geometry.groups == 1
    if ours and (has_spectral_kernels(dtype, geometry) or (planes and dtype == torch.float32)):
        members.append("spectral")
    if ours and has_dense_kernels(dtype, geometry):
        members.append("dense")
    if len(members) == 1:
        return Choice("lowpass", "no other method has kernels for it")
    return _cheapest(microseconds(filters, dtype, geometry, allow_tf32), members, "estimated us", 1)


@lru_cache(maxsize=4096)
def _cached_choice(transformed: bool, allow_tf32: bool, *arguments: Any) -> Choice:
    """Return the result of `_choose`; `transformed` states whether a transform of `torch.func` is active."""
    return _choose(allow_tf32, *arguments)


def _is_autocast(device: str) -> bool:
    """Return whether `torch.autocast` is on for this type of device; always False for "meta"."""
    # Not `is_autocast_available`: torch 2.11's Dynamo cannot trace it.
    return device != "meta" and torch.is_autocast_enabled(device)


def _cpu_methods(geometry: Geometry) -> list[str]:
    """Return the methods that "auto" compares on the CPU."""
    members = ["lowpass", "spectral"]
    if geometry.groups == 1 and math.prod(geometry.input) <= DENSE_PIXELS:
        members.append("dense")
    return members


def _cheapest(costs: dict[str, float], members: list[str], unit: str, scale: float) -> Choice:
    best = members[0]
    for name in members[1:]:  # not min(): `torch.compile` cannot trace its key
        best = name if costs[name] < costs[best] else best
    return Choice(best, costs={name: costs[name] / scale for name in members}, unit=unit)


def multiply_adds(filters: Sequence[int], geometry: Geometry) -> dict[str, float]:
    """Return the multiply-adds per image of each method, and of the ordinary convolution as "ordinary".

    `filters` is the weight's shape, (O, C / groups, [K_h,] K_w). The cost of transforming the filters is
    divided among `CPU_BATCH` images, not among the images of the real batch, because the method, and so the
    last bits of a result, must not depend on the batch size.
    """
    out_channels, group_channels, *_ = filters
    channels, pairs = group_channels * geometry.groups, out_channels * group_channels
    inputs, outputs = math.prod(geometry.input), math.prod(geometry.out)
    taps, coefficients = math.prod(geometry.kernel), 2 * geometry.coefficients
    first, *second = geometry.band.axes
    padded = first.padded * inputs
    there, back = 2 * first.kept * inputs, 2 * first.kept * outputs
    if second:
        columns = second[0]
        padded = first.padded * columns.length * (first.length + columns.padded)
        there += coefficients * 2 * columns.length
        back += coefficients * 2 * geometry.out[1]
    ordinary = outputs * taps * pairs
    return {
        "ordinary": ordinary,
        "lowpass": channels * padded + ordinary,
        "spectral": channels * there
        + 2 * coefficients * pairs
        + out_channels * back
        + coefficients * taps * pairs / CPU_BATCH,
        "dense": inputs * outputs * pairs * (1 + taps / CPU_BATCH),
    }
