"""The kernels of the fused layers: BatchNorm's gradient, ReLU and max-pool."""
