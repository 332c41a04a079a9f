"""The kernels of the fused layers: BatchNorm, ReLU and max-pool, forward and backward."""
