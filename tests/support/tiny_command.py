"""The `blrobust` command with the tiny architecture and data set: `python -m support.tiny_command`."""

import pytest

from blrobust.__main__ import main
from support import tiny_training

if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        tiny_training.install(patch)
        main()
