"""Measurements: sweeps over levels of noise and attacks, Fourier heat maps, and recoveries of labels."""
