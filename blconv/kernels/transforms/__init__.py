"""The CUDA kernels of the transform to kept frequencies (analysis) and of its inverse (synthesis)."""
