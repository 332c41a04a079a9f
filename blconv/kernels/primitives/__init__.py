"""What kernels are built of: loads, stores and matrix products of a warp, and their simulation on a CPU."""
