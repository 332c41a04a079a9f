"""Two processes that measure in one folder: the second is refused, and nothing is lost."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import importing

from blrobust.runs.record import FILE

# The first piece is stored when the file `go` is there.
HELD = """
import sys, time
from pathlib import Path
from blrobust.cli import main
from blrobust.runs.run import Run
go = Path(sys.argv[1])
def add_all(*values, really=Run.add_all):
    while not go.exists():
        time.sleep(0.05)
    really(*values)
Run.add_all = add_all
main(sys.argv[2:])
"""
COMMANDS = {
    "heatmap": "heatmap fp32 --size 1 --limit 2",
    "recover": "recover --kind fgsm --compressions 0.5 --bits 4 --networks fft85 --limit 2",
}
DATA = ("--dataset", "cifar10-sample", "--device", "cpu")


def refusal(stderr: str) -> str:
    """Return the one line of the error, which follows the announcement and the note about the data."""
    *before, line = stderr.splitlines()
    assert len(before) == 2
    return line


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=importing(__file__),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_the_second_is_refused_and_the_first_goes_on(tmp_path: Path, command: str) -> None:
    arguments = [*COMMANDS[command].split(), *DATA, "--out"]
    folder = tmp_path / "pair"
    first = start("-c", HELD, str(tmp_path / "go"), *arguments, str(folder))
    deadline = time.monotonic() + 120
    while not (folder / FILE).exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    second = start("-m", "blrobust", *arguments, str(folder))
    out, err = second.communicate(timeout=120)
    (tmp_path / "go").touch()
    assert (second.returncode, out) == (2, "")
    assert refusal(err) == f"Error: {folder}: another process is working on this run"
    _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err

    alone = start("-m", "blrobust", *arguments, str(tmp_path / "alone"))
    alone.communicate(timeout=120)
    assert alone.returncode == 0
    tables = [list(path.glob("*.csv")) for path in (folder, tmp_path / "alone")]
    assert tables[0][0].read_bytes() == tables[1][0].read_bytes()

    again = start("-m", "blrobust", *arguments, str(folder))  # finished: shown again
    again.communicate(timeout=120)
    assert again.returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_two_that_start_at_once_measure_once(tmp_path: Path, command: str) -> None:
    arguments = [*COMMANDS[command].split(), *DATA, "--out", str(tmp_path / "pair")]
    both = [start("-m", "blrobust", *arguments) for _ in range(2)]
    errors = [process.communicate(timeout=240)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 2], [0, 0]), errors  # 0, 0: the first had finished
    for process, err in zip(both, errors, strict=True):
        assert process.returncode == 0 or "another process" in refusal(err)
