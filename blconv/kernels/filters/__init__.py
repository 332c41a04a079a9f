"""The CUDA kernels that make a matrix per frequency from the filters (packing), and the adjoint (folding)."""
