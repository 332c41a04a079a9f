"""Whose class an object is of: a user's, or one of a library, whose objects are not looked into."""

import sys

LIBRARIES = {"torch", "torchvision", "numpy", "blconv", "blrobust"} | sys.stdlib_module_names


def is_users(kind: type) -> bool:
    """Return whether a class is neither of Python's standard library nor of `LIBRARIES`."""
    return (getattr(kind, "__module__", None) or "torch").partition(".")[0] not in LIBRARIES
