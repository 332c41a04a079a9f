"""The kernels that compute each frequency's matrix from the filters, and its adjoint."""
