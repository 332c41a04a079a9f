"""Convolution, BatchNorm, ReLU and max-pool that together keep less for the backward pass."""
