"""Measurements: sweeps of noise and attacks, heat maps, recovered labels."""
