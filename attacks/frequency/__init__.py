"""Attacks whose perturbations have chosen spatial frequencies."""
