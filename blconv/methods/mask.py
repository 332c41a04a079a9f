"""The convolution that keeps any set of coefficients: mask the input's spectrum, then convolve as usual.

    y = conv(irfftn(mask * rfftn(pad(x))), w)

All other methods require that the kept coefficients form a low-frequency corner of the spectrum. Applying a
mask twice changes nothing, so it is enough to apply the mask to the input x and not to the filters w. The
mask must keep or drop each coefficient together with its conjugate, so that the result is real.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.geometry import Geometry
from blconv.layout import is_channels_last
from blconv.methods.choice import FULL_PRECISION, Choice

MASK_CHOICE = Choice("mask", "a fine-grained set: mask the input's spectrum, then convolve as usual")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor, geometry: Geometry) -> Tensor:
    """Compute the convolution of `apply_mask(x, mask, geometry)` with weight (O, C / groups, [K_h,] K_w).

    x is ([batch,] C, [H,] W), and `bias` is (O,) or None.
    """
    convolution = F.conv1d if geometry.dims == 1 else F.conv2d
    x = apply_mask(x, mask, geometry)
    return convolution(x, weight, bias, geometry.stride, 0, geometry.dilation, geometry.groups)


def apply_mask(x: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """Return x ([batch,] C, [H,] W) with padding and without the coefficients outside `mask`.

    The result has the dtype and the memory format of x. The transform has N_h x N_w points, and `mask` is
    bool ([N_h,] N_w // 2 + 1), with the same value for a coefficient and its conjugate. Raises `RuntimeError`
    for a mask of another shape, because a set of coefficients belongs to one size of the transform.
    """
    axes = geometry.band.axes
    shape = (*(axis.size for axis in axes[:-1]), axes[-1].half)
    if mask.shape != shape:
        raise RuntimeError(
            f"this input has {shape} coefficients, the calibrated set {tuple(mask.shape)}: "
            "run blconv.calibrate on inputs of this size"
        )
    zeros = [n for axis in reversed(axes) for n in (axis.before, axis.after)]
    sizes, dims = tuple(axis.size for axis in axes), tuple(range(-len(axes), 0))
    # The transforms need at least float32.
    kept = F.pad(x if x.dtype in FULL_PRECISION else x.float(), zeros)
    if kept.numel():  # torch 2.14 cannot transform an empty batch on the CPU
        kept = torch.fft.irfftn(torch.fft.rfftn(kept, s=sizes, dim=dims) * mask, s=sizes, dim=dims)
    kept = kept.to(x.dtype)
    for dim, axis in zip(dims, axes, strict=True):
        kept = kept.narrow(dim, 0, axis.padded)
    if is_channels_last(x):
        return kept.contiguous(memory_format=torch.channels_last)
    return kept.contiguous()
