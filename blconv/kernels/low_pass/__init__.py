"""The kernels that filter every plane by the low-pass, for both layouts and for 16-bit numbers."""
