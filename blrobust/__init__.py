"""Robustness of image classifiers to noise and attacks, with and without band limits or fewer bits."""

import os

# Foolbox imports GitPython, which refuses to load where no git executable exists unless told to be quiet.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

__version__ = "0.1.0"
