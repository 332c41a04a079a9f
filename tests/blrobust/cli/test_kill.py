"""kill -9 at every step of a real run: what is resumed equals what was never disturbed."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from blrobust.runs.run import Run

ARGUMENTS = (
    "noise",
    "--dataset",
    "cifar10-sample",
    "--models",
    "fp32,fft85",
    "--limit",
    "5",
    "--sigma",
    "0,0.5",
)

# A process per attempt, which kills itself before the n-th thing it does to the disk. The parent
# only imports, once for all; it never computes, so that it can be forked.
KILLER = """
import importlib, os, signal, sys
from pathlib import Path
from blrobust.cli import main
for name in ("cli.noise", "evaluation.sweep", "models.zoo", "reports.document"):
    importlib.import_module(f"blrobust.{name}")
from blrobust.runs.run import Run

whole, killed, *arguments = sys.argv[1:]
WRITES = {"os.mkdir", "os.rename", "os.remove", "sqlite3.connect"}

def attempt(folder, last):
    seen = 0
    def step():
        nonlocal seen
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
    def hear(event, values):
        writes = event in WRITES or (event == "open" and values[1] not in ("r", "rb"))
        if writes and folder in str(values[0]):
            step()
    def commit(run, *values, **named):
        add(run, *values, **named)
        step()
    add, Run.add = Run.add, commit
    sys.addaudithook(hear)
    main([*arguments, "--out", folder])

def survived(folder, last):
    process = os.fork()
    if process == 0:
        attempt(folder, last)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        sys.exit("an attempt failed")
    return os.WIFEXITED(status)

def complete():
    if not (Path(killed) / "run.sqlite").exists():
        return False
    with Run.open(Path(killed)) as run:
        return len(run.done()) == 4

assert survived(whole, 0)
kills, last, reporting = 0, 1, False
while not survived(killed, last):
    kills, last = kills + 1, last + 1
    if not reporting and complete():
        last, reporting = 1, True  # again from the first step, now that the report comes next
print("kills", kills)
"""


def cells(folder: Path):
    with Run.open(folder) as run:
        assert run.finished
        found = {cell: run.outcome(*cell) for cell in run.done()}
        return found, run.pictures(), run.labels


def rows(folder: Path):
    with (folder / "results.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
        ]


def test_kill_9_at_every_step_changes_no_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    shown = subprocess.run(
        [sys.executable, "-c", KILLER, str(whole), str(killed), *ARGUMENTS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "Traceback" not in shown.stderr
    kills = int(shown.stdout.split()[-1])
    assert kills >= 20
    assert len(cells(whole)[0]) == 4
    np.testing.assert_equal(cells(killed), cells(whole))
    assert rows(killed) == rows(whole)
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}
