"""Run folders: configuration, results and versions."""

from pathlib import Path

RUNS = Path("runs")  # where a command puts its folder unless it is given another
LEGAL_FOLDERS = "legal: a new or empty folder, or one of the same configuration"
