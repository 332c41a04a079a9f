"""The kernels of the forward and the inverse transform: analysis and synthesis."""
