"""A measured cell that is not stored yet."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blrobust.runs.database import Key
from blrobust.runs.packed_arrays import Outcomes, pack


class NewCell(NamedTuple):
    """A cell to store: key, arrays (n,) by name, numbers of images in passes, and wall time in seconds."""

    key: Key
    outcomes: Outcomes
    forwards: int
    backwards: int
    seconds: float

    def row(self, labels: NDArray[np.int16], time: str) -> tuple[Any, ...]:
        """Return the row of the table "cells", without its checksum.

        `labels` are the true labels (n,), and `time` is the end of the measurement (ISO 8601).
        """
        model, kind, level, draw = self.key
        return (
            *(model, kind, float(level) + 0.0, int(draw)),
            *(len(labels), int((self.outcomes["prediction"] == labels).sum())),
            *(self.forwards, self.backwards, float(self.seconds), time, pack(self.outcomes)),
        )
