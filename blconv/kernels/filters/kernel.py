"""Packing (from filters to the matrices that multiply the coefficients) and folding, its adjoint.

    w       (O, C, taps)              ordinary filters, in memory as here or channels last: (O, taps, C)
    table   (Q, taps, inputs, outputs)  constants: the factor of each tap in each entry of a matrix
    V       (Q, inputs, C, outputs, O)  V[q, i, :, j, :] = sum over the taps k of table[q, k, i, j] w[:, :, k]
            (Q, outputs, O, inputs, C)  the same transposed

For the spectral form q is a frequency, inputs and outputs are its real and imaginary parts, and V is
the real form [[re, im], [-im, re]] of the filters' spectrum; for the dense form there is one q, and
inputs and outputs are pixels. Filters are small, so latency decides the time: a thread issues all its reads
before it uses the first one.

Packing: a block owns 32 channels along the last axis of V, one per lane, 8 along the other one, one per
warp, and a run of q. It reads its filters and its part of the table once and writes rows of 32. Folding: a
block owns 32 outputs, one per lane, and some channels. Several warps share the q of a channel and add their
sums through shared memory, without atomics, so that results have the same bits every time.
"""

from functools import lru_cache

from blconv.kernels.filters import folding, packing
from blconv.kernels.filters.sizes import LANES, WARPS, FilterSizes
from blconv.kernels.primitives.vectors import pointer
from blconv.kernels.runtime.kernel import Kernel

__all__ = ["FilterSizes", "fold", "pack"]


@lru_cache(maxsize=256)
def pack(filters: FilterSizes) -> Kernel:
    """Return the kernel (w, V, table), of `packing_blocks`."""
    memory = pointer(filters.memory)
    signature = (memory, memory, "float32*")
    return Kernel(packing.function(filters), signature, LANES * WARPS, filters.packing_bytes, filters)


@lru_cache(maxsize=256)
def fold(filters: FilterSizes) -> Kernel:
    """Return the kernel (V, w, table), of `folding_blocks`; it sums in float32."""
    memory = pointer(filters.memory)
    signature = (memory, memory, "float32*")
    threads = LANES * filters.folding_channels * filters.folding_warps
    return Kernel(folding.function(filters), signature, threads, filters.folding_bytes, filters)
