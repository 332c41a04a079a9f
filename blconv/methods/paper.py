"""The method "paper", the published algorithm (paper sections 3 and 6.1): the convolution by FFTs.

    z = crop(rfftn(x padded)),  v = crop(rfftn(w padded)),  y = irfftn(pad(sum of z * conj(v)))
    g = crop(rfftn(dy padded)),  dx = irfftn(pad(sum of g * v)),  dw = irfftn(pad(sum of conj(g) * z))

x is the input, w the filters and y the output; dx, dw and dy are their gradients. "padded" means padded to
the transform's size. crop keeps only the coefficients in the band, and pad puts zeros in place of the dropped
coefficients. The sums run over the input channels for y, the output channels for dx and the images for dw.

Only the cropped spectra z and v are saved for the backward pass, which reuses them (the paper's map reuse).
So both passes together need six transforms. This method reproduces the publication, and the benchmarks
compare the other methods with it.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from blconv.band import AxisBand
from blconv.geometry import Geometry
from blconv.kernels.limits import runs_operators
from blconv.layout import is_channels_last

Axes = tuple[AxisBand, ...]
ProductName = Literal["hadamard", "sgemm"]


def convolve(x: Tensor, weight: Tensor, geometry: Geometry, *, product: ProductName | None = None) -> Tensor:
    """Compute the band-limited convolution of x (batch, C, [H,] W) with weight (O, C, [K_h,] K_w).

    The geometry must have one group. `product` selects the implementation of the products of both spectra and
    their sum over the channels. "hadamard" is the paper's fused CUDA kernel for float32. "sgemm" makes three
    real matrix products per frequency and runs on any device. The default is "hadamard" if it can run,
    otherwise "sgemm". Returns (batch, O, [H_out,] W_out), which is channels_last in memory if x is.
    """
    axes = geometry.band.axes
    # An exported product would not be differentiable: the operator has no gradient of its own.
    fused = x.dtype == torch.float32 and runs_operators(x.device) and not torch.compiler.is_exporting()
    name = product or ("hadamard" if fused else "sgemm")
    inputs = [slice(axis.before, axis.before + axis.length) for axis in axes]
    outputs = [_strided(*steps) for steps in zip(geometry.out, geometry.stride, strict=True)]
    taps = [_strided(*steps) for steps in zip(geometry.kernel, geometry.dilation, strict=True)]

    z = _Analysis.apply(_place(x, inputs, axes), axes).flatten(2)
    v = _Analysis.apply(_place(weight, taps, axes), axes).flatten(2)
    coefficients = _Product.apply(z, v.transpose(0, 1), True, name)
    coefficients = coefficients.view(x.shape[0], weight.shape[0], *geometry.band.kept_shape)
    y: Tensor = _Synthesis.apply(coefficients, axes)[(..., *outputs)]
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return y.contiguous(memory_format=layout)


class _Analysis(Function):
    """The forward transform: the kept coefficients of real maps (..., [N_h,] N_w).

    N_h and N_w are the numbers of points of the transform. The backward pass of this function is
    `_Synthesis`, and that of `_Synthesis` is this function. The true adjoints differ from these functions by
    two factors: the number of points of the transform, and 2 for coefficients that stand for a conjugate
    pair. A gradient always passes through one function of each kind, so the factors cancel.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor, axes: Axes) -> Tensor:
        return crop(torch.fft.rfftn(maps, dim=_dims(axes)), axes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.axes = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Synthesis.apply(gradient, ctx.axes), None


class _Synthesis(Function):
    """The inverse transform: real maps (..., [N_h,] N_w) from their kept coefficients; see `_Analysis`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(corner: Tensor, axes: Axes) -> Tensor:
        sizes = [axis.size for axis in axes]
        maps: Tensor = torch.fft.irfftn(pad(corner, axes), s=sizes, dim=_dims(axes))
        return maps

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.axes = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Analysis.apply(gradient, ctx.axes), None


class _Product(Function):
    """The matrix products a @ b, or a @ conj(b) if `conjugate`, at each of Q frequencies; see `hadamard`.

    Their gradients are products of the same kind, so derivatives of any order exist. `name` selects the
    implementation, a key of `PRODUCTS`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor, conjugate: bool, name: ProductName) -> Tensor:
        return PRODUCTS[name](a, b, conjugate)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, b, ctx.conjugate, ctx.name = inputs
        ctx.save_for_backward(a, b)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        a, b = ctx.saved_tensors
        da = db = None
        if ctx.needs_input_grad[0]:
            da = _Product.apply(g, b.transpose(0, 1), not ctx.conjugate, ctx.name)
        if ctx.needs_input_grad[1]:
            left, right = (a.transpose(0, 1), g) if ctx.conjugate else (g.transpose(0, 1), a)
            db = _Product.apply(left, right, True, ctx.name)
            db = db if ctx.conjugate else db.transpose(0, 1)
        return da, db, None, None


@torch.library.custom_op("blconv::hadamard", mutates_args=())
def hadamard(a: Tensor, b: Tensor, conjugate: bool) -> Tensor:
    """Compute the matrix products a @ b, or a @ conj(b) if `conjugate`, at each of Q frequencies.

    a is (I, L, Q), b is (L, J, Q) and the result (I, J, Q), all complex64. This is the paper's fused CUDA
    kernel (`blconv.kernels.hadamard.multiply`).
    """
    from blconv.kernels.hadamard import multiply  # here, because Numba is slow to import

    return multiply(a, b, conjugate)


@hadamard.register_fake
def _(a: Tensor, b: Tensor, conjugate: bool) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1], a.shape[2])


def sgemm(a: Tensor, b: Tensor, conjugate: bool) -> Tensor:
    """Compute the same as `hadamard` by three real matrix products per frequency (Gauss; paper 6.1)."""
    a, b = a.permute(2, 0, 1), b.permute(2, 0, 1)
    b_imaginary = -b.imag if conjugate else b.imag
    first = torch.bmm(a.real + a.imag, b.real)
    second = torch.bmm(a.real, b_imaginary - b.real)
    third = torch.bmm(a.imag, b.real + b_imaginary)
    return torch.complex(first - third, first + second).permute(1, 2, 0).contiguous()


PRODUCTS: dict[ProductName, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "hadamard": hadamard,
    "sgemm": sgemm,
}


def crop(spectrum: Tensor, axes: Axes) -> Tensor:
    """Return the kept corner of a one-sided spectrum (..., [N_h,] N_w // 2 + 1) as a contiguous tensor.

    `axes` has the numbers of points N_h and N_w and of kept frequencies.
    """
    spectrum = spectrum[..., : axes[-1].kept]
    if len(axes) == 1 or not axes[0].is_cut:
        return spectrum.contiguous()
    k = axes[0].kept
    return torch.cat([spectrum[..., :k, :], spectrum[..., axes[0].size - k + 1 :, :]], -2)


def pad(corner: Tensor, axes: Axes) -> Tensor:
    """Return the one-sided spectrum with the kept corner `corner` and zeros for the dropped coefficients."""
    corner = F.pad(corner, (0, axes[-1].half - axes[-1].kept))
    if len(axes) == 1 or not axes[0].is_cut:
        return corner
    k, size = axes[0].kept, axes[0].size
    middle = corner.new_zeros(*corner.shape[:-2], size - 2 * k + 1, corner.shape[-1])
    return torch.cat([corner[..., :k, :], middle, corner[..., k:, :]], -2)


def shift_dc(spectrum: Tensor, *, dim: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Return a spectrum with frequency 0 moved to index n // 2 of each axis of n frequencies, for pictures.

    `dim` are the axes to shift. They must have frequencies of both signs, so for a one-sided spectrum `dim`
    is (-2,).
    """
    return torch.roll(spectrum, [spectrum.shape[d] // 2 for d in dim], dim)


def _place(values: Tensor, where: list[Any], axes: Axes) -> Tensor:
    """Return maps of the transform's size that are `values` (.., .., [H,] W) at `where` and zero elsewhere.

    `where` has one slice for each axis.
    """
    maps = values.new_zeros(*values.shape[:2], *[axis.size for axis in axes])
    maps[(..., *where)] = values
    return maps


def _strided(count: int, step: int) -> Any:
    """Return the slice that selects `count` positions from 0 on, `step` apart."""
    return slice(0, (count - 1) * step + 1, step)


def _dims(axes: Axes) -> tuple[int, ...]:
    """Return the last dimensions of a tensor, one for each axis, as negative numbers."""
    return tuple(range(-len(axes), 0))
