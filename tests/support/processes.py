"""Processes that tests start and that import test modules by name."""

import os
from pathlib import Path


def importing(test_file: str, **more: str) -> dict[str, str]:
    """Return an environment in which the modules beside `test_file`, and `support`, can be imported."""
    folders = [str(Path(test_file).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))} | more
