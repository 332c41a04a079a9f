"""Data sets: where they lie, how they are read."""
