"""The CUDA kernels of the low-pass filter, for both memory formats and for 16-bit numbers."""
