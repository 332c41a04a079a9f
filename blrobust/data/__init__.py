"""Data sets: registry, download and reading."""
