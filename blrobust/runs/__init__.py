"""Run folders: the configuration, the results and the origin of a run."""

from pathlib import Path

RUNS = Path("runs")  # the default folder for run folders
LEGAL_FOLDERS = "legal: a new or empty folder, or one of the same configuration"
