"""A run ends with its results whatever stdout, stderr and the environment of its process are."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.cli import main
from blrobust.reports import document
from blrobust.runs.folder import REPORT, RESULTS
from blrobust.runs.run import Run

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
        ("", {"MPLCONFIGDIR": "/dev/null/nowhere", "TMPDIR": "/dev/null/nowhere"}),
        ("", {"HOME": "/dev/null/nowhere", "XDG_CACHE_HOME": "/dev/null/nowhere"}),
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
    with Run.open(folder) as run:
        assert len(run.done()) == 2


@pytest.mark.parametrize("command", ["noise --sigma", "attack --kind fgsm --strength"])
def test_a_report_that_cannot_be_drawn_does_not_cost_the_results(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    options = f"0,0.5 --dataset cifar10-sample --limit 5 --models fp32 --device cpu --out {folder}"
    errors = [RuntimeError("no fonts\nand no cache"), OSError(30, "Read-only file system"), ImportError("x")]
    for error in [*errors, MemoryError(), AssertionError()]:
        with monkeypatch.context() as patch:
            patch.setattr(document, "render", Mock(side_effect=error))
            code, out, err = call(f"{command} {options}", capsys)
            assert code == 2
            assert (folder / RESULTS).read_text().count("\n") == 3
            assert "fp32" in out
            assert "report:" not in out
            line = err.splitlines()[-1]
            told = "Read-only file system; " if isinstance(error, OSError) else f"{type(error).__name__}: "
            assert line.startswith(f"Error: {folder / REPORT} could not be drawn: {told}")
            assert line.endswith(f"are in {folder / RESULTS}, and 'blrobust report {folder}' draws it later")
            code, _, err = call(f"report {folder}", capsys)
            assert (code, err.count("\n")) == (2, 1)
    assert call(f"report {folder}", capsys)[0] == 0


def call(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        main(command.split())
    return end.value.code, *capsys.readouterr()


def test_a_broken_matplotlibrc(tmp_path: Path) -> None:
    (tmp_path / "rc").write_bytes(b"\xff\xfe")
    done = shell(f"{NOISE} {tmp_path / 'run'}", MATPLOTLIBRC=str(tmp_path / "rc"))
    assert done.returncode == 2
    assert (tmp_path / "run" / RESULTS).exists()
    assert b"could not be drawn: UnicodeDecodeError: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("name", "package"), [("SOURCE_DATE_EPOCH", "scipy"), ("PANDAS_FUTURE", "pandas")])
def test_a_package_that_cannot_be_imported_is_one_line(name: str, package: str, tmp_path: Path) -> None:
    done = shell(f"{NOISE} {tmp_path / 'run'} --quiet", **{name: "abc"})
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"Error: the package {package} cannot be imported: ValueError: ")
    if (tmp_path / "run").exists():
        with Run.open(tmp_path / "run") as run:
            assert not run.done()  # it fails before it measures
    done = shell(f"{NOISE} {tmp_path / 'run'} --quiet")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_package_that_fails_after_the_measurement_leaves_the_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("raise RuntimeError('no\\nlibrary')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunAnalysis, "write_csv", lambda self: importlib.import_module("broken"))
        code, _, err = call(f"{NOISE} {folder} --quiet", capsys)
    assert (code, err) == (2, "Error: the package broken cannot be imported: RuntimeError: no library\n")
    with Run.open(folder) as run:
        assert len(run.done()) == 2
    assert call(f"{NOISE} {folder} --quiet", capsys)[0] == 0


def test_no_home(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"unset HOME; {BLROBUST} {NOISE} {tmp_path / 'run'}"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
