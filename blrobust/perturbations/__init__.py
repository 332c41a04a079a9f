"""Noise, levels of perturbations, input spaces, and the random numbers of each sample."""
