"""A run ends with its results whatever stdout, stderr and the environment of its process are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blrobust.runs.folder import REPORT, RESULTS

BLROBUST = f"{sys.executable} -m blrobust"
NOISE = "noise --dataset cifar10-sample --limit 5 --models fp32 --sigma 0,0.5 --device cpu --out"
IN_ASCII = {"PYTHONIOENCODING": "ascii"}


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", f"{BLROBUST} {command}"],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("redirected", "environment"),
    [
        ("", {"MPLBACKEND": "nonsense"}),
        ("", {"MPLBACKEND": "qtagg", "MATPLOTLIBRC": "nowhere"}),
        ("", IN_ASCII),
        ("", {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
        ("2>&-", {}),
        (">&-", {}),
        ("<&- >&- 2>&-", {}),
        ("2>/dev/full", {}),
        (">/dev/full", {}),
        (">/dev/full 2>/dev/full", {}),
        ("2>&1 | true; exit 0", {}),
    ],
    ids=str,
)
def test_no_environment_fails_a_run(redirected: str, environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = shell(f"{NOISE} {folder} {redirected}", **environment)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (folder / RESULTS).read_text().count("\n") == 3
    assert (folder / REPORT).read_text().endswith("</html>")
    assert shell(f"runs {folder}").stdout.count(b"2/2") == 1


@pytest.mark.parametrize("redirected", [">&- 2>&-", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize(("command", "code"), [("attacks", 0), ("--help", 0), ("runs nowhere", 2)])
def test_output_does_not_change_the_exit_code(command: str, code: int, redirected: str) -> None:
    done = shell(f"{command} {redirected}")
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_a_closed_stderr_does_not_write_into_files(tmp_path: Path) -> None:
    program = (
        "from blrobust.terminal import echo, protect_streams\n"
        "protect_streams()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "echo('text', err=True)\n"
        "import os; os.write(2, b'more')\n"
        "raise SystemExit(file.fileno())"
    )
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{program}" <&- >&- 2>&-'], check=False)
    assert done.returncode > 2
    assert (tmp_path / "file").read_text() == ""


def test_characters_that_the_terminal_lacks(tmp_path: Path) -> None:
    done = shell(f"runs {tmp_path}/fünf", **IN_ASCII)
    assert done.returncode == 2
    assert rb"f\xfcnf" in done.stderr
