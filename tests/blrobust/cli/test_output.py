"""`--json` and `--quiet`: what scripts read on stdout, and that nothing else is there."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support import invented, invented_frequencies, tiny_training
from support.plain_model import write_images
from support.processes import importing

from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.cli import COMMANDS as ALL
from blrobust.cli import main
from blrobust.cli.output import print_json
from blrobust.data.registry import NAMES
from blrobust.models import zoo
from blrobust.perturbations import levels
from blrobust.runs.listing import KEYS

MODEL = """
from support.plain_model import Plain


class Talks(Plain):
    def forward(self, x):
        print("hello")
        return super().forward(x)


class Fails(Plain):
    def forward(self, x):
        raise RuntimeError("broken")
"""
COMMANDS = {
    "noise": ["noise", "--models", "a=mine:Talks", "--sigma", "0,1", "--draws", "1"],
    "attack": ["attack", "--kind", "gaussian", "--models", "a=mine:Talks", "--strength", "0,0.1"],
    "heatmap": ["heatmap", "a=mine:Talks", "--size", "3"],
    "recover": [
        *("recover", "--source", "a=mine:Talks", "--kind", "fgsm", "--networks", "b=mine:Talks"),
        *("--compressions", "0.5", "--bits", "4"),
    ],
}
FACTS = [key for key in KEYS if key != "error"]


@pytest.fixture(autouse=True)
def _model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Path("mine.py").write_text(MODEL)
    write_images(Path("images.npz"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([*arguments])
    out, err = capsys.readouterr()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, out, err


def test_numbers_that_are_not_finite_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, math.inf, 1.5], "b": ("x\x1b", True), "c": Path("d")})
    found = json.loads(capsys.readouterr().out)
    assert found == {"a": [None, None, 1.5], "b": ["x\x1b", True], "c": "d"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_measurement_is_one_document(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*COMMANDS[command], "--dataset", "npz:images.npz", "--limit", "6", "--out", "here"]
    code, out, err = run(capsys, *given, "--json")
    found = json.loads(out)
    assert code == 0
    assert "hello" in err
    assert "\ndone in " in err
    assert list(found) == [*FACTS, "report", "results"]
    assert (found["folder"], found["command"], found["n"]) == ("here", command, 6)
    assert (found["run"], found["report"]) == ("here", "here/report.html")
    assert found["done"] == found["cells"]
    assert found["finished"] is not None
    assert found["seconds"] > 0
    stored = pd.read_csv("here/results.csv")
    assert list(stored) == list(found["results"][0])
    assert len(stored) == len(found["results"])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_quiet_measurement_prints_its_folder(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*COMMANDS[command], "--dataset", "npz:images.npz", "--limit", "6", "--out", "here"]
    code, out, err = run(capsys, *given, "-q")
    assert (code, out) == (0, "here\n")
    assert {line for line in err.splitlines() if "mine.py" not in line} == {"hello"}, "a print of the model"
    code, out, err = run(capsys, *given, "--quiet", "--json")  # shown again, not measured
    assert (code, json.loads(out)["folder"]) == (0, "here")


@pytest.mark.parametrize("form", ["--json", "--quiet"])
def test_an_error_leaves_stdout_empty(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["noise", "--models", "a=mine:Fails", "--dataset", "npz:images.npz", "--out", "here"],
        ["noise", "--sigma", "x"],
        ["heatmap", "a=mine:Fails", "--dataset", "npz:images.npz"],
    ):
        code, out, err = run(capsys, *arguments, form)
        assert (code, out) == (2, "")
        assert "Error: " in err.splitlines()[-1]
    if form == "--json":
        for arguments in (["runs", "nowhere"], ["report", "nowhere"]):
            code, out, err = run(capsys, *arguments, form)
            assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_a_failed_part_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["noise", "--models", "a=mine:Talks", "--dataset", "npz:images.npz", "--sigma", "0"]
    Path("matplotlibrc").write_text("text.usetex: True\nfont.family: 3\nsavefig.dpi: x\n")
    Path("here").mkdir()
    (Path("here") / "report.html").mkdir()  # cannot be replaced by a file
    code, out, err = run(capsys, *given, "--out", "here", "--json")
    assert (code, out) == (2, "")
    assert "here/report.html" in err


OTHERS = (
    *(
        "attacks --parameters",
        "attacks pgd*",
        "report one",
        "report one two",
        "compare one two",
    ),
    *("export one --per-image images.csv --table table.md", "runs .", "models", "models --verify"),
    *("data list", "data get cifar10-sample", "train fp32-early --arch tiny --dry-run --out new"),
    *("noise --models fp32 --dataset cifar10-sample --limit 2 --dry-run",),
    *("paper mismatch fp32 --test-rates 50 --dataset cifar10-sample --limit 2 --dry-run",),
)


@pytest.mark.parametrize("line", OTHERS)
def test_every_command_prints_one_document(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {each.split()[0] for each in OTHERS} | set(COMMANDS) == set(ALL)
    if line.startswith("train"):
        tiny_training.install(monkeypatch)
    invented.run(Path("one"), {"x": [0.9, 0.2]}, [0.0, 1.0])
    invented.run(Path("two"), {"x": [0.8, 0.1]}, [0.0, 1.0])
    code, out, err = run(capsys, *line.split(), "--json")
    assert (code, "Error" in err) == (0, False)
    assert json.loads(out)


def test_a_wrong_checkpoint_is_in_the_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own").mkdir()
    Path("own/cifar10-resnet20-mine.safetensors").write_bytes(b"x" * 20)
    monkeypatch.setenv("BLROBUST_WEIGHTS", "own")
    monkeypatch.setattr(zoo, "verify", lambda entry, data_dir: ([], ["checksum"]))
    code, out, err = run(capsys, "models", "--verify", "--json")
    first, *others = json.loads(out)
    assert (code, err) == (2, "Error: 1 of the checkpoints are not what they say\n")
    assert "own/cifar10-resnet20-mine.safetensors" in first["problems"][0]
    assert all(each["passed"] and not each["problems"] for each in others)


def test_runs_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    invented.run(Path("runs/noisy"), {"x": [0.9, 0.2]}, [0.0, 1.0])
    invented_frequencies.heatmap(Path("runs/map"), cells=4)
    invented_frequencies.recovery(Path("runs/back"))
    Path("runs/broken").mkdir()
    Path("runs/broken/run.json").write_text("{")
    code, out, err = run(capsys, "runs", "--json")
    found = {each["run"]: each for each in json.loads(out)}
    assert (code, err) == (0, "")
    assert {name: each["command"] for name, each in found.items()} == {
        "broken": None,
        "noisy": "noise",
        "map": "heatmap",
        "back": "recover",
    }
    assert all(list(each) == list(KEYS) for each in found.values())
    assert (found["map"]["done"], found["map"]["cells"], found["map"]["finished"]) == (4, 12, None)
    assert found["back"]["folder"] == "runs/back"
    assert "corrupt" in found["broken"]["error"]
    assert found["noisy"]["error"] is None


def test_a_report_is_the_path_of_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    invented.run(Path("noisy"), {"x": [0.9, 0.2]}, [0.0, 1.0])
    code, out, err = run(capsys, "report", "noisy", "--json")
    assert (code, json.loads(out), err) == (0, {"report": "noisy/report.html"}, "")


def test_models_are_one_document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLROBUST_WEIGHTS", "own")
    code, out, err = run(capsys, "models", "--json")
    found = {each["name"]: each for each in json.loads(out)}
    assert (code, err) == (0, "")
    assert (found["fp32"]["arch"], found["fp32"]["nominal_compression"]) == ("resnet20", 0.0)
    assert 0.845 < found["fft85"]["effective_compression"] < 0.847
    assert all(Path(each["path"]).is_file() and each["bundled"] for each in found.values())


def test_attacks_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "attacks", "--json")
    found = {each["name"]: each for each in json.loads(out)}
    assert (code, err, list(found)) == (0, "", list(ATTACKS))
    assert found["pgd-linf"]["levels"] == list(levels.parse(ATTACKS["pgd-linf"].grid))
    assert found["pgd-linf"]["parameters"]["steps"] == 20
    assert found["pgd-linf"]["suites"] == ["quick"]
    assert found["gen"]["targeted"]
    assert list(found["gen"]) == list(found["pgd-linf"])


def test_data_sets_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "data", "list", "--json", "--data-dir", "none")
    found = {each["name"]: each for each in json.loads(out)}
    assert (code, err, list(found)) == (0, "", list(NAMES))
    assert (found["cifar10"]["found"], found["cifar10"]["test"]) == (False, 10_000)
    assert (found["cifar10-sample"]["found"], found["cifar10-sample"]["path"]) == (True, None)


def test_stdout_of_a_process_is_valid_json() -> None:
    command = [sys.executable, "-m", "blrobust", *COMMANDS["noise"], "--dataset", "npz:images.npz", "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=importing(__file__))
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["finished"] is not None


def test_a_model_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    given = "noise --models a=mine:Talks,b=mine:Talks --sigma 0,1 --dataset npz:images.npz --out here"
    code, out, _ = run(capsys, *given.split())
    _, table = out.split(", one draw\n")
    header, *rows = (re.split("  +", line) for line in table.splitlines()[:3])
    assert code == 0
    assert header == ["model", "compression", "clean", "mean", "50 % at", "against a"]
    assert [(row[0], len(row)) for row in rows] == [("a", 6), ("b", 6)]
