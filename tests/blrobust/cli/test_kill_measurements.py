"""A kill before every change on the disk: heat maps and recoveries are resumed to the same bits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.kills import WHOLE
from support.processes import importing

from blrobust import atomic_write
from blrobust.runs.measurement import FILE

KILLER = """
import importlib, sys
from pathlib import Path
from support.kills import kill_at_every_step
for name in ("cli.heatmap", "cli.recover", "models.zoo"):
    importlib.import_module(f"blrobust.{name}")
for name in ("heatmap", "recovery"):
    importlib.import_module(f"blrobust.evaluation.{name}")
    importlib.import_module(f"blrobust.reports.{name}")
kill_at_every_step(Path(sys.argv[1]), sys.argv[2:])
"""
COMMANDS = {
    "heatmap": "heatmap fp32 --size 1 --limit 2",
    "recover": "recover --kind fgsm --compressions 0.5 --bits 4 --networks fft85 --limit 2",
}
DATA = ("--dataset", "cifar10-sample", "--device", "cpu")


def results(folder: Path) -> tuple[dict[str, Any], set[str], list[bytes]]:
    """Return the stored pieces, the names of the files and the tables of a folder."""
    record = json.loads((folder / FILE).read_text("utf-8"))
    assert record["finished"]
    names = {path.name for path in folder.iterdir()}
    return record["done"], names, [path.read_bytes() for path in sorted(folder.glob("*.csv"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_at_every_step_changes_no_bit(tmp_path: Path, command: str) -> None:
    subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), *COMMANDS[command].split(), *DATA],
        env=importing(__file__),
        check=True,
    )
    whole = results(tmp_path / WHOLE)
    assert not any(map(atomic_write.is_temporary, whole[1]))
    killed = [folder for folder in tmp_path.iterdir() if folder.name != WHOLE]
    assert len(killed) >= 14  # folder, lock, and three steps for each of four files or more
    for folder in killed:
        assert results(folder) == whole, folder.name
