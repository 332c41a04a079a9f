"""Device functions for kernels: loads, stores and matrix products of a warp, and their CPU simulation."""
