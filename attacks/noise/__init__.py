"""Attacks that add random noise to each sample."""
