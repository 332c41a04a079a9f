"""The method "lowpass": filter the input by one small matrix per axis, then convolve as usual.

A plane X (one channel of one image) becomes the matrix product A_rows X A_columns^T. The constant matrices A
(`blconv.tables.low_pass`) pad the plane and remove the frequencies outside the band. Because the mask of the
band is separable and idempotent, an ordinary convolution of the result is exactly the band-limited
convolution of X, for any transform size. The ordinary convolution supports stride, dilation, groups and all
dtypes, so this method supports every option.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from blconv.band import Band
from blconv.geometry import Geometry
from blconv.kernels import launches, operators
from blconv.kernels.launches import Bands
from blconv.kernels.limits import runs_low_pass_kernel
from blconv.layout import is_channels_last
from blconv.methods.spectral import to_autocast_dtype
from blconv.tables import table

# Above this number of input pixels a plane is filtered axis by axis also on the GPU: one product for both
# axes needs a matrix (pixels, padded pixels), which grows with the square of the plane.
PLANE_MATRIX_PIXELS = 1024
# Up to this number of channels, images that are channels_last are copied to contiguous memory, filtered and
# copied back on a GPU: a product with so few columns takes longer than both copies.
FEW_CHANNELS = 4


class _LowPass(Function):
    """The operator `blconv.kernels.operators.low_pass` without torch's dispatcher, in half the host time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bands: Bands, transposed: bool) -> Tensor:
        ctx.settings = bands, transposed
        ctx.layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        return launches.low_pass(x, bands, transposed)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        bands, transposed = ctx.settings
        # The operator is differentiable, the launch is not.
        run = operators if torch.is_grad_enabled() else launches
        return run.low_pass(dy.contiguous(memory_format=ctx.layout), bands, not transposed), None, None


# `_LowPass.apply` also tests for transforms of `torch.func`, which `runs_low_pass_kernel` has excluded.
_apply = super(Function, _LowPass).apply


def convolve(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Compute the band-limited convolution of x (batch, C, [H,] W) with weight (O, C / groups, [K_h,] K_w).

    Returns (batch, O, [H_out,] W_out).
    """
    # Under autocast the convolution reads its input in 16 bits, so the filter writes half the bytes.
    x = to_autocast_dtype(x)
    convolution = F.conv1d if geometry.dims == 1 else F.conv2d
    return convolution(
        low_pass(x, geometry.band), weight, None, geometry.stride, 0, geometry.dilation, geometry.groups
    )


def low_pass(x: Tensor, band: Band) -> Tensor:
    """Return x with padding and without the frequencies outside the band (paper 3.1, without a transform).

    x is (batch, C, [H,] W). Every plane X of x (one channel of one image) becomes the matrix product
    A_rows X A_columns^T, and in 1D every row r becomes A r, with the matrices of `blconv.tables.low_pass`.
    The result includes the padding and has the memory format of x. On CUDA one kernel computes it if the
    sizes permit it (`blconv.kernels.low_pass.kernel`).
    """
    if len(band.axes) == 1:
        return torch.matmul(x, table("low_pass", band.axes, x).T)
    if x.dim() == 4 and runs_low_pass_kernel(x.device, x.dtype, band, channels_last=is_channels_last(x)):
        if type(x) is Tensor and not torch.compiler.is_compiling():
            y: Tensor = _apply(x, band.axes, False)
            return y
        return operators.low_pass(x, band.axes, False)
    height, width = band.axes
    if is_channels_last(x):
        if x.device.type == "cuda" and x.shape[1] <= FEW_CHANNELS:
            return low_pass(x.contiguous(), band).contiguous(memory_format=torch.channels_last)
        return _channels_last(x, band)
    if type(x) is Tensor and x.device.type == "cuda" and height.length * width.length <= PLANE_MATRIX_PIXELS:
        # On a GPU one product per plane is 1.3 to 2 times faster than two batches of small ones.
        plane = table("low_pass_plane", band.axes, x)
        y = torch.matmul(x.reshape(*x.shape[:-2], height.length * width.length), plane.T)
        return y.view(*x.shape[:-2], height.padded, width.padded)
    rows, columns = table("low_pass", (height,), x), table("low_pass", (width,), x)
    return torch.matmul(rows, torch.matmul(x, columns.T))


def _channels_last(x: Tensor, band: Band) -> Tensor:
    batch, channels, height, width = x.shape
    rows, columns = (table("low_pass", (axis,), x) for axis in band.axes)
    pixels = x.permute(0, 2, 3, 1)  # (b, H, W, c), contiguous
    y = torch.matmul(rows, pixels.reshape(batch, height, width * channels))
    y = torch.matmul(columns, y.view(batch * rows.shape[0], width, channels))
    return y.view(batch, rows.shape[0], columns.shape[0], channels).permute(0, 3, 1, 2)
