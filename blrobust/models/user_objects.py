"""Whose code a class or a function is of: the user's own files, an installed package, or a library."""

import os
import sys

LIBRARIES = {"torch", "torchvision", "numpy", "blconv", "blrobust"}  # besides Python's standard library
STANDARD = os.path.dirname(os.__file__)
INSTALLED = ("site-packages", "dist-packages")  # folders of installed packages


def is_users(kind: type) -> bool:
    """Return whether a class is neither of Python's standard library nor of `LIBRARIES`."""
    return not _is_library(getattr(kind, "__module__", None))


def is_own(kind: type) -> bool:
    """Return whether a class is defined in a file of the user's own, not in an installed package."""
    return is_own_module(getattr(kind, "__module__", None))


def is_own_module(name: object) -> bool:
    """Return whether the module of this name is a file of the user's own, or typed in by the user."""
    return not _is_library(name) and not any(folder in _file(name) for folder in INSTALLED)


def _is_library(name: object) -> bool:
    if not isinstance(name, str):
        return True
    top = name.partition(".")[0]
    # A file of the user can have the name of a standard module, such as test.py.
    is_standard = top in sys.stdlib_module_names and _file(name).startswith((STANDARD, "<"))
    return top in LIBRARIES or is_standard


def _file(name: object) -> str:
    """Return the path of a loaded module, "<unknown>" if it has none."""
    return getattr(sys.modules.get(str(name)), "__file__", None) or "<unknown>"
