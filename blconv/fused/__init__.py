"""Layers that save less for the backward pass: convolution, BatchNorm, ReLU and max-pool."""
