"""Attacks that choose spatial frequencies."""
