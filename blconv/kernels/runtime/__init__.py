"""Compilation of kernels, their cache on disk, and their launch."""
