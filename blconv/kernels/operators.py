"""The CUDA operations as torch operators: differentiable, traceable, capturable in CUDA graphs.

    z = analyse(x, axes)           pixels -> kept coefficients            z  (Q, batch, parts * C)
    Y = contract(z, w, axes)       one matrix product per frequency       Y  (Q, batch, parts * O)
    y = synthesise(Y, axes, ...)   coefficients -> pixels
    V = pack(w, axes)              filters -> the matrices of contract    V  (Q, parts * C, parts * O)
    w = fold(V, axes, ...)         the adjoint of pack
    y = low_pass(x, bands, ...)    A_rows X A_columns^T for every plane X of x, or its adjoint

analyse is a Fourier transform that computes only Q kept frequencies, and synthesise is its inverse. parts is
2: the real parts of all channels, then the imaginary parts. If only the mean is kept, which is real, parts is
1. A plane is one channel of one image.

analyse and synthesise are each other's adjoint, and so are pack and fold. The adjoint of low_pass is low_pass
with transposed matrices; this operator saves nothing for the backward pass. contract saves z and w; its
backward pass makes V again. So no other tensor is saved for a convolution, and derivatives of any order
consist of the same operators. The filters' axes are `TransformAxis` for the method "spectral" and `DenseAxis`
for "dense". For "dense", z are the pixels themselves, (1, batch, H * W * C).

A schema of torch cannot contain classes of this package: an operator takes the fields of the two axes, rows
first, as one `int[]`. Only `_flat` and `_axes` convert between the two forms.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from blconv.band import AxisBand
from blconv.geometry import DenseAxis, TransformAxis
from blconv.kernels import launches
from blconv.kernels.launches import Bands
from blconv.kernels.plans import (
    FilterAxes,
    PlaneAxes,
    matrix_sizes,
    table_kind,
)
from blconv.kernels.transforms.fragments import coefficient_count, part_count
from blconv.layout import is_channels_last

LIBRARY = torch.library.Library("blconv", "DEF")
LIBRARY.define("analyse(Tensor x, int[] axes) -> Tensor")
LIBRARY.define("synthesise(Tensor z, int[] axes, int channels, bool channels_last) -> Tensor")
LIBRARY.define("pack(Tensor w, str kind, int[] axes) -> Tensor")
LIBRARY.define("fold(Tensor v, str kind, int[] axes, int[] shape, bool channels_last) -> Tensor")
LIBRARY.define("contract(Tensor z, Tensor w, str kind, int[] axes) -> Tensor")
LIBRARY.define("low_pass(Tensor x, int[] axes, bool transposed) -> Tensor")

ops: Any = torch.ops.blconv
FILTERS: dict[str, Any] = {"filter_table": TransformAxis, "pixel_filter_table": DenseAxis}

Axis = TypeVar("Axis", AxisBand, TransformAxis, DenseAxis)


def _flat(axes: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the fields of two axes, first those of the rows' axis, as one list."""
    rows, columns = axes
    return [*rows, *columns]


def _axes(kind: type[Axis], numbers: Sequence[int]) -> tuple[Axis, Axis]:
    """Return the two axes, of the type `kind`, from the list of their fields: the inverse of `_flat`."""
    axes: tuple[Axis, Axis] = _cached_axes(kind, tuple(numbers))  # type: ignore[arg-type]
    return axes


@lru_cache(maxsize=4096)
def _cached_axes(kind: Any, numbers: tuple[int, ...]) -> tuple[Any, Any]:
    count = len(kind._fields)
    return kind._make(numbers[:count]), kind._make(numbers[count:])


def analyse(x: Tensor, axes: PlaneAxes) -> Tensor:
    """Return the kept coefficients (Q, batch, parts * C) of x (batch, C, H, W): the forward transform.

    Q is the number of kept coefficients of a channel. parts is 2, for real and imaginary parts, or 1 if only
    the mean is kept. `axes` are those of x, rows first.
    """
    z: Tensor = ops.analyse(x, _flat(axes))
    return z


def synthesise(z: Tensor, axes: PlaneAxes, channels: int, channels_last: bool) -> Tensor:
    """Return the pixels (batch, C, H, W) of the coefficients z (Q, batch, parts * C): the inverse transform.

    C is `channels`, and `channels_last` selects the memory format of the result. Q is the number of kept
    coefficients of a channel. parts is 2, for real and imaginary parts, or 1 if only the mean is kept.
    """
    y: Tensor = ops.synthesise(z, _flat(axes), channels, channels_last)
    return y


def pack(w: Tensor, axes: FilterAxes) -> Tensor:
    """Return the matrices (Q, inputs * C, outputs * O) for `contract`, made from filters w (O, C, K_h, K_w).

    There are Q matrices, one per kept frequency, or a single one for the method "dense". `inputs` and
    `outputs` are the numbers of values per channel. For "spectral" both are 2 (real and imaginary part), or 1
    if only the mean is kept; for "dense" they are the numbers of pixels of the input and of the output.
    """
    v: Tensor = ops.pack(w, table_kind(axes), _flat(axes))
    return v


def fold(v: Tensor, axes: FilterAxes, shape: Sequence[int], channels_last: bool) -> Tensor:
    """Return the adjoint of `pack`, applied to v: filters of the given `shape` (O, C, K_h, K_w).

    v has the shape of a result of `pack`. `channels_last` selects the memory format of the filters.
    """
    w: Tensor = ops.fold(v, table_kind(axes), _flat(axes), shape, channels_last)
    return w


def contract(z: Tensor, w: Tensor, axes: FilterAxes) -> Tensor:
    """Return the matrix products z[q] @ V[q] for all q, where V are the matrices `pack(w, axes)`.

    z is (Q, batch, inputs * C), and the result is (Q, batch, outputs * O); `pack` defines Q, inputs and
    outputs.
    """
    y: Tensor = ops.contract(z, w, table_kind(axes), _flat(axes))
    return y


def low_pass(x: Tensor, bands: Bands, transposed: bool) -> Tensor:
    """Return the matrix product A_rows X A_columns^T for every plane X of x (batch, C, H, W).

    A_rows and A_columns are the matrices `tables.low_pass` of the two `bands`. With `transposed`, both are
    transposed, which gives the adjoint.
    """
    y: Tensor = ops.low_pass(x, _flat(bands), transposed)
    return y


# The kernels by operator; tests register them for simulated devices too.
KERNELS: dict[str, Callable[..., Tensor]] = {
    "analyse": lambda x, axes: launches.analyse(x, _axes(TransformAxis, axes)),
    "synthesise": lambda z, axes, *rest: launches.synthesise(z, _axes(TransformAxis, axes), *rest),
    "pack": lambda w, kind, axes: launches.pack(w, _axes(FILTERS[kind], axes)),
    "fold": lambda v, kind, axes, *rest: launches.fold(v, _axes(FILTERS[kind], axes), *rest),
    "contract": lambda z, w, kind, axes: launches.contract(z, w, _axes(FILTERS[kind], axes)),
    "low_pass": lambda x, axes, transposed: launches.low_pass(x, _axes(AxisBand, axes), transposed),
}
for _name, _run in KERNELS.items():
    LIBRARY.impl(_name, _run, "CUDA")


@torch.library.register_fake("blconv::analyse")
def _(x: Tensor, axes: list[int]) -> Tensor:
    rows, columns = _axes(TransformAxis, axes)
    count = coefficient_count(rows.kept, columns.kept)
    return x.new_empty(count, x.shape[0], part_count(count) * x.shape[1])


@torch.library.register_fake("blconv::synthesise")
def _(z: Tensor, axes: list[int], channels: int, channels_last: bool) -> Tensor:
    return launches.empty_images(z, _axes(TransformAxis, axes), channels, channels_last)


@torch.library.register_fake("blconv::pack")
def _(w: Tensor, kind: str, axes: list[int]) -> Tensor:
    count, inputs, outputs = matrix_sizes(_axes(FILTERS[kind], axes))
    return w.new_empty(count, inputs * w.shape[1], outputs * w.shape[0])


@torch.library.register_fake("blconv::fold")
def _(v: Tensor, kind: str, axes: list[int], shape: list[int], channels_last: bool) -> Tensor:
    outputs, channels, *taps = shape
    return v.new_empty(outputs, *taps, channels).movedim(-1, 1) if channels_last else v.new_empty(shape)


@torch.library.register_fake("blconv::contract")
def _(z: Tensor, w: Tensor, kind: str, axes: list[int]) -> Tensor:
    _, _, outputs = matrix_sizes(_axes(FILTERS[kind], axes))
    return z.new_empty(z.shape[0], z.shape[1], outputs * w.shape[0])


@torch.library.register_fake("blconv::low_pass")
def _(x: Tensor, axes: list[int], transposed: bool) -> Tensor:
    return launches.empty_low_pass(x, _axes(AxisBand, axes), transposed)


def _setup_analyse(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.axes = inputs
    ctx.channels, ctx.channels_last = x.shape[1], is_channels_last(x)


def _analyse_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return ops.synthesise(grad, ctx.axes, ctx.channels, ctx.channels_last), None


def _setup_synthesise(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.axes, _, ctx.channels_last = inputs


def _synthesise_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    layout = torch.channels_last if ctx.channels_last else torch.contiguous_format
    return ops.analyse(grad.contiguous(memory_format=layout), ctx.axes), None, None, None


def _setup_pack(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    w, ctx.kind, ctx.axes = inputs
    ctx.shape, ctx.channels_last = w.shape, is_channels_last(w)


def _pack_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return ops.fold(grad, ctx.kind, ctx.axes, ctx.shape, ctx.channels_last), None, None


def _setup_fold(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.kind, ctx.axes, _, _ = inputs


def _fold_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    return ops.pack(grad, ctx.kind, ctx.axes), None, None, None, None


def _setup_contract(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, w, ctx.kind, ctx.axes = inputs
    ctx.save_for_backward(z, w)


def _contract_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    z, w = ctx.saved_tensors
    dz = torch.bmm(grad, ops.pack(w, ctx.kind, ctx.axes).mT) if ctx.needs_input_grad[0] else None
    dw = None
    if ctx.needs_input_grad[1]:
        dv = torch.bmm(z.mT, grad)
        dw = ops.fold(dv, ctx.kind, ctx.axes, w.shape, is_channels_last(w))
    return dz, dw, None, None


def _setup_low_pass(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.axes, ctx.transposed = inputs
    ctx.layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format


def _low_pass_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return ops.low_pass(grad.contiguous(memory_format=ctx.layout), ctx.axes, not ctx.transposed), None, None


for _name, _backward, _setup in (
    ("analyse", _analyse_backward, _setup_analyse),
    ("synthesise", _synthesise_backward, _setup_synthesise),
    ("pack", _pack_backward, _setup_pack),
    ("fold", _fold_backward, _setup_fold),
    ("contract", _contract_backward, _setup_contract),
    ("low_pass", _low_pass_backward, _setup_low_pass),
):
    torch.library.register_autograd(f"blconv::{_name}", _backward, setup_context=_setup)
