"""The method "dense", for maps of two or three pixels a side: one matrix pads, filters and convolves.

Every output depends on every input. So y = x M, where x is (batch, C H W) and the matrix M is
(C H W, O H_out W_out). For 2 x 2 pixels this takes 16 multiply-adds per pair of channels; the direct 3 x 3
convolution takes 36. The cost does not depend on the compression or the transform size.
"""

import torch
from torch import Tensor

from blconv.geometry import Geometry
from blconv.kernels import operators
from blconv.kernels.limits import runs_dense_kernels
from blconv.layout import is_channels_last
from blconv.methods.spectral import to_autocast_dtype
from blconv.tables import table

SUBSCRIPTS = {1: "oct,tna->cano", 2: "octs,tna,smb->cabnmo"}


def convolve(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Compute the band-limited convolution of x (batch, C, [H,] W) with weight (O, C, [K_h,] K_w).

    The geometry must have one group. Returns (batch, O, [H_out,] W_out), which is channels_last in memory
    if x is, otherwise contiguous.
    """
    x = to_autocast_dtype(x)
    axes = geometry.dense_axes
    if runs_dense_kernels(x.device, x.dtype, geometry):
        pixels = x.permute(0, 2, 3, 1).reshape(1, x.shape[0], -1)
        y = operators.contract(pixels, weight.to(x.dtype), axes)
        y = y.view(x.shape[0], *geometry.out, weight.shape[0]).movedim(-1, 1)
        return y if is_channels_last(x) else y.contiguous()
    reads = [table("low_pass_taps", (axis,), weight) for axis in axes]
    matrix = torch.einsum(SUBSCRIPTS[geometry.dims], weight, *reads)
    inputs = x.shape[1] * x[0, 0].numel()
    y = torch.matmul(x.reshape(x.shape[0], inputs), matrix.reshape(inputs, -1))
    y = y.view(x.shape[0], *geometry.out, weight.shape[0]).movedim(-1, 1)
    return y if is_channels_last(x) else y.contiguous()
