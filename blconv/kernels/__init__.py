"""CUDA kernels, written in Python and compiled by Numba, and the torch operators made of them."""
