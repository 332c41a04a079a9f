"""A kill before every change on the disk: heat maps and recoveries are resumed to the same bits."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.kills import WHOLE
from support.plain_model import write_images
from support.processes import importing

from blrobust import atomic_write
from blrobust.runs.run import Run

# The process only imports, once for both commands; it never computes, so that it can be forked.
KILLER = """
import importlib, shlex, sys
from pathlib import Path
from support.kills import kill_at_every_step
for name in ("cli.heatmap", "cli.recover", "models.zoo", "reports.document"):
    importlib.import_module(f"blrobust.{name}")
for name in ("heatmap", "recovery"):
    importlib.import_module(f"blrobust.evaluation.{name}")
for line in sys.argv[1:]:
    command, *arguments = shlex.split(line)
    Path(command).mkdir()
    kill_at_every_step(Path(command).resolve(), [command, *arguments])
"""
MODEL = "support.plain_model:Plain"
DATA = "--dataset npz:images.npz --device cpu"
COMMANDS = (
    f"heatmap x={MODEL} --size 3 --batch-size 24 {DATA}",  # two of the five frequencies per commit
    f"recover --kind fgsm --source x={MODEL} --networks y={MODEL} --compressions 0.5 --bits 4 {DATA}",
)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder per command, of runs that were killed once and resumed."""
    folder = tmp_path_factory.mktemp("killed")
    write_images(folder / "images.npz")
    subprocess.run([sys.executable, "-c", KILLER, *COMMANDS], env=importing(__file__), cwd=folder, check=True)
    return folder


def results(folder: Path) -> tuple[dict[Any, Any], set[str], bytes]:
    """Return the outcomes of the cells, the names of the files and the table of a finished run."""
    with Run.open(folder) as run:
        assert run.finished
        outcomes = {cell: run.outcome(*cell) for cell in run.done()}
    return outcomes, {path.name for path in folder.iterdir()}, (folder / "results.csv").read_bytes()


@pytest.mark.parametrize("command", ["heatmap", "recover"])
def test_a_kill_at_every_step_changes_no_bit(killed: Path, command: str) -> None:
    whole = results(killed / command / WHOLE)
    assert not any(map(atomic_write.is_temporary, whole[1]))
    folders = [folder for folder in (killed / command).iterdir() if folder.name != WHOLE]
    assert len(folders) >= 18  # folder, lock, database, four commits, two steps for each of four files
    for folder in folders:
        found = results(folder)
        np.testing.assert_equal(found[0], whole[0], err_msg=folder.name)
        assert found[1:] == whole[1:], folder.name
