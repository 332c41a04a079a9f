"""Noise, levels, input spaces and the random numbers of each sample."""
