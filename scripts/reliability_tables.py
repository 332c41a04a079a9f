"""The tables of docs/reliability.md, from docs/results/reliability.json (`python -m faults --out`)."""

import json
from pathlib import Path
from typing import Any

from markdown_tables import table

RESULTS = Path(__file__).parents[1] / "docs" / "results"
NAMES = {
    "kills": "kills and failing system calls",
    "full": "full disks",
    "inputs": "hostile inputs",
    "flips": "flipped bits",
    "pairs": "pairs of processes",
}
FAULTS = {
    "lost": "lost",
    "traceback": "tracebacks",
    "silent change": "silent changes",
    "other": "other faults",
}


def trials() -> list[str]:
    """Return the table of the numbers of trials and of faults, a row per kind of trial."""
    rows = [
        [NAMES[kind], f"{count['trials']:,}", *(f"{count['faults'][fault]:,}" for fault in FAULTS)]
        for kind, count in _counts().items()
    ]
    return table(["trials", "number", *FAULTS.values()], rows)


def effects() -> list[str]:
    """Return the table of the effects of trials and their numbers, a row per kind of trial and effect."""
    rows = [
        [NAMES[kind], effect, f"{number:,}"]
        for kind, count in _counts().items()
        for effect, number in count["tried"].items()
    ]
    return table(["trials", "effect", "times"], rows)


def calls() -> list[str]:
    """Return a sentence with the numbers of signals and of system calls that change a folder."""
    kills = _counts()["kills"]
    signals = sum(number for effect, number in kills["tried"].items() if effect.startswith("SIG"))
    visited = min(kills["system calls"], kills["trials"] * 3 // 5)
    ends = f"Signals ended {signals:,} processes. The commands change their folders at "
    return [f"{ends}{kills['system calls']:,} system calls, of which {visited:,} were visited in turn."]


def _counts() -> dict[str, Any]:
    found = json.loads((RESULTS / "reliability.json").read_text("utf-8"))
    return {kind: found[kind] for kind in NAMES}
