"""The method "spectral": transform to the kept frequencies, multiply per frequency, and transform back.

The shapes below are those of the computation by torch's operators; the CUDA kernels have the shapes of
`blconv.kernels.operators`. Every step is a matrix product: of the data and a constant matrix
(`blconv.tables`), or of the input's and the filters' spectra. So autograd, double backward and
`torch.compile` work without further code. For the backward pass autograd saves the kept coefficients z and
the filters' spectrum v, but never the input.

Channels are the last dimension, because every constant matrix then multiplies contiguous rows of channels
from the left:

    x  (batch, H, W, C)           the input
    z  (batch, Q, 2, C)           its kept coefficients at Q frequencies; real and imaginary parts
    v  (Q, 2, C, O)               the filters' spectrum
    Y  (batch, Q, 2, O)           the output's coefficients, z conj(v) summed over C
    y  (batch, H_out, W_out, O)   the output; only the strided positions are computed

A frequency is a pair: a non-negative frequency of the rows' axis, and one of either sign of the columns'
axis. In a 1D convolution it is a single non-negative frequency. In the inverse transform, a coefficient
counts twice if its conjugate is not among the Q coefficients.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from blconv.geometry import Geometry
from blconv.kernels import launches, layer_operator, operators
from blconv.kernels.convolution import Convolution, LayerAxes, axes_of, convolution
from blconv.kernels.limits import runs_spectral_kernels
from blconv.kernels.plans import dense, is_split, readable
from blconv.kernels.transforms.fragments import part_count
from blconv.layout import is_channels_last
from blconv.tables import table


def convolve(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Compute the band-limited convolution of x (batch, C, [H,] W) with weight (O, C / groups, [K_h,] K_w).

    Returns (batch, O, [H_out,] W_out), which is channels_last in memory if x is, otherwise contiguous.
    """
    return _convolve(x, weight, geometry, False)[0]


def convolve_keeping(x: Tensor, weight: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Return the output of `convolve`, and its coefficients, from which `synthesise` computes it again."""
    y, *_, coefficients = _convolve(x, weight, geometry, True)
    return y, coefficients


def _convolve(x: Tensor, weight: Tensor, geometry: Geometry, keep: bool) -> tuple[Tensor, ...]:
    """Return the output first and, with `keep`, its coefficients last."""
    x = to_autocast_dtype(x)
    if type(x) is Tensor and runs_spectral_kernels(x.device, x.dtype, geometry):
        if weight.dtype != x.dtype:
            weight = weight.to(x.dtype)
        if not torch.compiler.is_compiling():
            outputs: tuple[Tensor, ...] = _apply(x, weight, geometry, keep)
            return outputs
        if not keep:
            return (layer_operator.convolve(x, weight, LayerAxes.of(geometry)),)
    coefficients = contract(analyse(x, geometry), weight, geometry)
    return synthesise(coefficients, geometry, channels_last=is_channels_last(x)), coefficients


class _Convolution(Function):
    """The convolution on CUDA, as one call of compiled host code, which launches all kernels.

    The operators `analyse`, `contract` and `synthesise` compute the same, but take several times the host
    time.

    The outputs are y, the coefficients z of x and, with `keep`, the coefficients Y of y. z is an output so
    that second derivatives reach x through z. Second derivatives use the three operators.
    """

    # No `setup_context`: with it torch inspects the signature at every call.
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry, keep: bool) -> tuple[Tensor, ...]:
        x, last = readable(x)
        dense_weight, weight_last = dense(weight)
        plan = ctx.plan = _plan(
            geometry, x.dtype, weight.shape, last, weight_last, is_split(x.dtype), x.device
        )
        outputs = plan.forward(x, dense_weight, keep)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(outputs[1], weight)
        return outputs

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor | None, dz: Tensor | None, to_coefficients: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        z, weight = ctx.saved_tensors
        to_x, to_weight, _, _ = ctx.needs_input_grad
        plan = ctx.plan
        if dy is None or dz is not None or to_coefficients is not None or torch.is_grad_enabled():
            ctx.axes, ctx.channels, ctx.last = plan.axes, plan.channels, plan.last
            several = layer_operator.differentiable_backward(ctx, z, weight, dy, dz, to_coefficients)
            return *several, None, None
        dx, dw = plan.backward(z, dense(weight)[0], dy, to_x=to_x, to_w=to_weight)
        return dx, dw, None, None


@lru_cache(maxsize=4096)
def _plan(
    geometry: Geometry, dtype: torch.dtype, weight_shape: tuple[int, ...], last: bool, weight_last: bool,
    split: bool, device: torch.device,
) -> Convolution:  # fmt: skip
    outputs, channels = weight_shape[:2]
    return convolution(axes_of(geometry), dtype, channels, outputs, (last, weight_last), split, device)


# `_Convolution.apply` also tests for transforms of `torch.func`; `runs_spectral_kernels` has excluded them.
_apply = super(Function, _Convolution).apply


def analyse(x: Tensor, geometry: Geometry) -> Tensor:
    """Return the kept coefficients of x (batch, C, [H,] W): its Fourier transform, cut to the band.

    The result is (batch, Q, 2, C), for Q coefficients per channel, each with a real and an imaginary part. If
    the CUDA kernels run, the result is (Q, batch, parts * C), where parts is 2, or 1 if only the mean is kept
    (`blconv.kernels.operators`).
    """
    x = to_autocast_dtype(x)
    if runs_spectral_kernels(x.device, x.dtype, geometry):
        return operators.analyse(x, _axes(geometry).inputs)
    return _analyse(x.movedim(1, -1), geometry)


def contract(z: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Return the Fourier coefficients of the output: the product of `z` and the spectrum of the filters.

    `z` is a result of `analyse`, and `weight` is (O, C / groups, [K_h,] K_w). The result is shaped like z,
    with O channels.
    """
    if z.dim() == 4:
        return _multiply(z, filter_spectrum(weight, geometry), geometry.groups)
    return operators.contract(z, weight.to(z.dtype), _axes(geometry).filters)


def synthesise(coefficients: Tensor, geometry: Geometry, *, channels_last: bool) -> Tensor:
    """Return the output (batch, O, [H_out,] W_out) from its coefficients, which `contract` returns.

    This is the inverse transform, computed only at the positions that the stride selects. `channels_last`
    selects the memory format of the output.
    """
    if coefficients.dim() == 4:
        y = _synthesise(coefficients, geometry).movedim(-1, 1)
        return y if channels_last else y.contiguous()
    channels = coefficients.shape[2] // part_count(coefficients.shape[0])
    # Without a gradient the kernel is launched directly: the dispatch of an operator takes longer.
    apart = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    run = launches.synthesise if apart else operators.synthesise
    return run(coefficients, _axes(geometry).outputs, channels, channels_last)


def _axes(geometry: Geometry) -> LayerAxes:
    # `torch.compile` traces the arithmetic instead of the cache.
    return LayerAxes.of(geometry) if torch.compiler.is_compiling() else axes_of(geometry)


def to_autocast_dtype(x: Tensor) -> Tensor:
    """Return x in autocast's dtype if x is on CUDA and autocast is on for CUDA; float64 stays as it is.

    Autocast does not cast the inputs of our operators, because it has no rule for them.
    """
    if not x.is_cuda or x.dtype == torch.float64 or not torch.is_autocast_enabled("cuda"):
        return x
    return x.to(torch.get_autocast_dtype("cuda"))


def _multiply(z: Tensor, v: Tensor, groups: int) -> Tensor:
    """Compute Y = z conj(v), the coefficients of the output, from those of the input and of the filters.

    z is (batch, Q, 2, C), v is (Q, 2, groups, C / groups, O / groups), and the result is (batch, Q, 2, O). Q
    is the number of frequencies. There are four real matrix products per frequency, two for the real and two
    for the imaginary part.
    """
    batch, count, _, channels = z.shape
    split = z.view(batch, count, 2, groups, channels // groups)
    z_real, z_imaginary = (split[:, :, i].permute(1, 2, 0, 3).flatten(0, 1) for i in (0, 1))
    v_real, v_imaginary = (v[:, i].flatten(0, 1) for i in (0, 1))
    real = torch.baddbmm(torch.bmm(z_real, v_real), z_imaginary, v_imaginary)
    imaginary = torch.baddbmm(torch.bmm(z_imaginary, v_real), z_real, v_imaginary, alpha=-1)
    parts = [part.view(count, groups, batch, -1).permute(2, 0, 1, 3) for part in (real, imaginary)]
    return torch.stack(parts, 2).flatten(3)


def _analyse(x: Tensor, geometry: Geometry) -> Tensor:
    """Return the kept coefficients (batch, Q, 2, C) of x (batch, [H,] W, C) at Q frequencies.

    The transform is scaled by 1 / sqrt(size) on each axis of `size` points.
    """
    batch, channels = x.shape[0], x.shape[-1]
    first, *second = _axes(geometry).inputs
    rows = table("analysis", (first,), x)
    if not second:
        return torch.matmul(rows, x).view(batch, first.kept, 2, channels)
    (last,) = second
    columns = table("analysis_complex", (last,), x)
    z = torch.matmul(rows, x.reshape(batch, first.positions, -1))
    z = torch.matmul(columns, z.view(batch * first.kept, 2 * last.positions, channels))
    return z.view(batch, geometry.coefficients, 2, channels)


def _synthesise(coefficients: Tensor, geometry: Geometry) -> Tensor:
    """Return the output (batch, [H_out,] W_out, O) from its coefficients (batch, Q, 2, O) at Q frequencies.

    The transform is scaled by 1 / sqrt(size) on each axis of `size` points.
    """
    batch, channels = coefficients.shape[0], coefficients.shape[-1]
    first, *second = _axes(geometry).outputs
    rows = table("synthesis", (first,), coefficients)
    if not second:
        return torch.matmul(rows, coefficients.reshape(batch, 2 * first.kept, channels))
    (last,) = second
    columns = table("synthesis_complex", (last,), coefficients)
    y = coefficients.reshape(batch * first.kept, columns.shape[1], channels)
    y = torch.matmul(columns, y).view(batch, 2 * first.kept, last.positions * channels)
    return torch.matmul(rows, y).view(batch, first.positions, last.positions, channels)


def filter_spectrum(weight: Tensor, geometry: Geometry) -> Tensor:
    """Return the spectrum (Q, 2, groups, C / groups, O / groups) of weight (O, C / groups, [K_h,] K_w).

    Q is the number of frequencies, and the second axis has real and imaginary parts.
    """
    kind = "filters" if geometry.dims == 1 else "filters_plane"
    waves = table(kind, _axes(geometry).filters, weight)
    out_channels, channels = weight.shape[:2]
    groups = geometry.groups
    # (taps, groups, C / groups, O / groups)
    taps = weight.flatten(2).view(groups, out_channels // groups, channels, -1).permute(3, 0, 2, 1)
    spectrum = torch.matmul(waves, taps.reshape(waves.shape[1], -1))
    return spectrum.view(-1, 2, groups, channels, out_channels // groups)
