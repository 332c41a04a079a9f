"""Data sets: the registered ones, their download, and reading of images."""
