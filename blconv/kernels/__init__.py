"""CUDA kernels, written in Python and compiled by Numba: the transforms, the filters, the paper's product."""
