"""Robustness of image classifiers to noise and attacks, with and without band limits or fewer bits."""

import os
from typing import TYPE_CHECKING, Any

# Foolbox imports GitPython, which refuses to load where no git executable exists unless told to be quiet.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from blrobust.api import attack, compare, evaluate, list_runs, load_data, load_model, open_run
    from blrobust.frequency import heatmap, recover

__all__ = [
    "__version__",
    "attack",
    "compare",
    "evaluate",
    "heatmap",
    "list_runs",
    "load_data",
    "load_model",
    "open_run",
    "recover",
]


def __getattr__(name: str) -> Any:
    """Return a function of the Python interface, which is imported with torch when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from blrobust import api, frequency

    return getattr(frequency if name in ("heatmap", "recover") else api, name)


def __dir__() -> list[str]:
    """Return the names that the package exports, and those of the module itself."""
    return sorted({*globals(), *__all__})
