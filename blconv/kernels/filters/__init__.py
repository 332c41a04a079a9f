"""The kernels that make each frequency's matrix from the filters, and its adjoint."""
