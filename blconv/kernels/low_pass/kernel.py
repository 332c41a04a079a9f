"""The low-pass filter R X S^T of every plane X, for two constant matrices R and S.

A plane is one channel of one image. The adjoint of the filter is the same kernel with transposed matrices.
Shapes, for images of C channels and H x W pixels that become `rows` x `columns` pixels:

    x  (images, C, H, W) or (images, H, W, C)
    y  (images, C, rows, columns) or (images, rows, columns, C)

Device memory is read once and written once: H * W + rows * columns numbers per plane. Both products run on
tensor cores. `pixels_last` and `channels_last` have the kernels of the two memory formats, and `half` has the
kernel for 16-bit numbers with channels last. In "split" precision, float32 factors are written as sums of two
numbers that tensor cores read exactly.
"""

from functools import lru_cache

from blconv.kernels.low_pass import channels_last, half, pixels_last
from blconv.kernels.low_pass.sizes import LowPassSizes
from blconv.kernels.primitives.vectors import pointer
from blconv.kernels.runtime.kernel import Kernel


@lru_cache(maxsize=256)
def low_pass(sizes: LowPassSizes) -> Kernel:
    """Return the kernel with the arguments (x, y, first, second, number of images).

    first and second are the constant matrices of the two stages (`blconv.kernels.low_pass.sizes.operands`).
    """
    numbers = pointer(sizes.memory)
    if sizes.halves:
        function, table = half.function(sizes.halves), "uint32*"
    else:
        function, table = (channels_last if sizes.channels_last else pixels_last).function(sizes), "float32*"
    signature = (numbers, numbers, table, table, "int64")
    return Kernel(function, signature, 32 * sizes.warps, sizes.shared_bytes, sizes)
