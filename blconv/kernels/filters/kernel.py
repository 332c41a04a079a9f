"""Packing (from filters to the matrices that multiply the coefficients) and folding, its adjoint.

    w       (O, C, taps)                the filters, or channels last in memory: (O, taps, C)
    table   (Q, taps, inputs, outputs)  constants: the factor of each tap in each entry of a matrix
    V       (Q, inputs, C, outputs, O)  V[q, i, c, j, o] = sum over the taps k of table[q, k, i, j] w[o, c, k]
            (Q, outputs, O, inputs, C)  the same, if the matrices are transposed

For the method "spectral" there is a matrix for each frequency q. `inputs` and `outputs` are 2, for real and
imaginary parts, and V is the real form [[re, im], [-im, re]] of the filters' spectrum. For the method "dense"
there is one q, and `inputs` and `outputs` are the numbers of pixels. Filters are small, so the latency of
reads determines the time: a thread starts all its reads before it uses the first number.

In packing, a CUDA block computes a part of V: 32 channels on the last axis of V (one per lane), 8 channels on
the other channel axis (one per warp), and several successive q. The block reads its filters and its part of
the table once and writes rows of 32 numbers. In folding, a block computes the filters of 32 output channels
(one per lane) and some input channels. Several warps divide the matrices q of a channel among themselves and
add their sums through shared memory. This needs no atomic operations, so results always have the same bits.
"""

from functools import lru_cache

from blconv.kernels.filters import folding, packing
from blconv.kernels.filters.sizes import LANES, WARPS, FilterSizes
from blconv.kernels.primitives.vectors import pointer
from blconv.kernels.runtime.kernel import Kernel

__all__ = ["FilterSizes", "fold", "pack"]


@lru_cache(maxsize=256)
def pack(filters: FilterSizes) -> Kernel:
    """Return the kernel that packs, with the arguments (w, V, table), which the module defines.

    Its grid has `filters.packing_blocks` blocks.
    """
    memory = pointer(filters.memory)
    signature = (memory, memory, "float32*")
    return Kernel(packing.function(filters), signature, LANES * WARPS, filters.packing_bytes, filters)


@lru_cache(maxsize=256)
def fold(filters: FilterSizes) -> Kernel:
    """Return the kernel that folds, with the arguments (V, w, table), which the module defines.

    Its grid has `filters.folding_blocks` blocks. It sums in float32.
    """
    memory = pointer(filters.memory)
    signature = (memory, memory, "float32*")
    threads = LANES * filters.folding_channels * filters.folding_warps
    return Kernel(folding.function(filters), signature, threads, filters.folding_bytes, filters)
