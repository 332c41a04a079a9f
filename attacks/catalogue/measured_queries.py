"""The measured queries of the attacks, which `scripts/measure_queries.py` writes to queries.csv."""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("queries.csv")


class Queries(NamedTuple):
    """Medians over images of the bundled fp32: forward and backward passes per image and level."""

    forwards: float
    backwards: float


@cache
def measured_queries() -> dict[str, Queries]:
    """Return the measured queries of the attacks, by name, with the default parameters."""
    with FILE.open(encoding="ascii", newline="") as file:
        return {
            row["attack"]: Queries(float(row["forwards"]), float(row["backwards"]))
            for row in csv.DictReader(file)
        }
