"""Packing (filters to the matrices that multiply the coefficients) and folding, its adjoint.

    w       (O, C, taps)              ordinary filters, in memory so, or channels last: (O, taps, C)
    table   (Q, taps, inputs, outputs)  a constant table: how the taps make each entry of a matrix
    V       (Q, inputs, C, outputs, O)  V[q, i, :, j, :] = sum over the taps k of table[q, k, i, j] w[:, :, k]
            (Q, outputs, O, inputs, C)  the same transposed

For the spectral form q is a frequency, inputs and outputs are its real and imaginary parts, and V is
the real form [[re, im], [-im, re]] of the filters' spectrum; for the dense form there is one q, and
inputs and outputs are pixels. FilterSizes are few, so time is latency: everything that a thread reads is
asked for before the first of it is used.

Packing: a block owns 32 channels along the last axis of V, a lane each, 8 of the other ones, a warp
each, and a run of q: it reads its filters and table once and writes rows of 32. Folding: a block owns 32
outputs, a lane each, and some channels, each of which has several warps that share the q between them
and add up through shared memory: no atomics, so the same bits every time.
"""

from functools import lru_cache

from blconv.kernels.filters import folding, packing
from blconv.kernels.filters.sizes import LANES, WARPS, FilterSizes
from blconv.kernels.primitives.vectors import pointer
from blconv.kernels.runtime.kernel import Kernel

__all__ = ["FilterSizes", "fold", "pack"]


@lru_cache(maxsize=256)
def pack(filters: FilterSizes) -> Kernel:
    """The kernel (w, V, table), of `packing_blocks`."""
    memory = pointer(filters.memory)
    signature = (memory, memory, "float32*")
    return Kernel(packing.function(filters), signature, LANES * WARPS, filters.packing_bytes, filters)


@lru_cache(maxsize=256)
def fold(filters: FilterSizes) -> Kernel:
    """The kernel (V, w, table), of `folding_blocks`; its sums are float32's until the end."""
    memory = pointer(filters.memory)
    signature = (memory, memory, "float32*")
    threads = LANES * filters.folding_channels * filters.folding_warps
    return Kernel(folding.function(filters), signature, threads, filters.folding_bytes, filters)
