"""Attacks within a frequency band."""
