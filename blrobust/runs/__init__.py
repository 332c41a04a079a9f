"""Run folders: configuration, results and versions."""

from pathlib import Path

RUNS = Path("runs")  # where a command puts its folder unless it is given another
