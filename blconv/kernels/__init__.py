"""CUDA kernels, written in Python and compiled by Numba, and the torch operators made of them.

The docstrings of this package use these terms:

    block          threads that run on one multiprocessor and share a small memory there (shared memory); all
                   blocks of a launch are its grid
    warp, lane     32 threads of a block that run in step; a lane is one of them. g = lane // 4, t = lane % 4
    bank           one of 32 parts of shared memory; lanes that access different words of one bank at once
                   (a bank conflict) have to wait for each other
    number         an element of a tensor
    vector         neighbouring numbers in memory that a thread reads or writes at once, at most 16 bytes
    word           32 bits that hold two 16-bit numbers; in the kernels of BatchNorm, 1, 4 or 8 bytes that
                   hold ReLU's bits
    bits           ReLU's bits: one per element, 1 if ReLU set the element to zero. The bits of a 16-bit
                   number: its memory as an integer
    product        C + A B, which a warp computes on tensor cores from operand A (16 rows) and operand B (8
                   columns); every lane holds some numbers of A, B and C (`primitives.warp`,
                   `primitives.words`)
    k              the index that a product sums over
    step           the values of k in one product: 8 in float32, 16 with 16-bit numbers
    tile           16 rows of operand A, or 8 columns of operand B; `tiles` counts the tiles of 8 channels of
                   a block. (In the kernels of BatchNorm, `tile` counts groups: `BatchNormSizes`.)
    fragment       the part of a matrix that is an operand of one product
    table          a constant matrix, in the order in which the lanes read it
    stage          the part of a kernel that multiplies along one axis of the images; T, the result of the
                   first stage, is the input of the second stage and lies in shared memory (in the low-pass
                   kernel for pixels last, in registers)
    plane          one channel of one image; a map is a tensor (batch, C, H, W)
    pixels last    the memory format (batch, C, H, W), torch's contiguous format
    channels last  the memory format (batch, H, W, C)
    parts          of a coefficient: real part and imaginary part
"""
