"""No name, path, metadata or error text from outside reaches stdout, stderr or a page with controls."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from blrobust.cli import main
from blrobust.models import checkpoint
from blrobust.models.checkpoint import Facts

HOSTILE = "a\x1b[31m\x1b]0;t\x07\u202eb\x9b2J\r\x00c\u2028\n\td".replace("\x00", "")
MARKUP = '</svg><script>alert("{{ 7 * 7 }}")</script><img src=x onerror=alert(1)>'
CONTROLS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
FACTORY = f"""
from torch import nn

def raises():
    raise ValueError({HOSTILE!r})

def model():
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
"""


def unsafe(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in CONTROLS and c != "\n"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a hostile name that has images, an archive, a checkpoint and a module."""
    folder = tmp_path / HOSTILE
    (folder / "weights").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    np.savez(
        folder / "set.npz", x=images, y=np.arange(4), classes=[f"{MARKUP}{HOSTILE}{i}" for i in range(10)]
    )
    facts = Facts(
        arch="resnet20", classes=10, precision="fp32", compression=0.0, fft_size="paper", dataset="mine",
        mean=(0.5,) * 3, std=(0.2,) * 3, seed=0, test_accuracy=0.5,
    )  # fmt: skip
    tensors = checkpoint.stored_state(facts.build())
    checkpoint.save(folder / "weights" / f"{HOSTILE}.safetensors", tensors, facts)
    torch.save({}, folder / "weights" / f"broken{HOSTILE}.safetensors")
    (tmp_path / "hostile_factory.py").write_text(FACTORY)
    monkeypatch.setenv("BLROBUST_WEIGHTS", str(folder / "weights"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def shown(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Return the exit code and the whole output, which has no control characters."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert not unsafe(out + err), out + err
    assert isinstance(end.value.code, int)
    return end.value.code, out + err


def test_a_run_and_all_that_is_shown_of_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--dataset", f"npz:{place / 'set.npz'}", "--device", "cpu"]
    mine, other = "mine=hostile_factory:model", "other=hostile_factory:model"
    run = place / f"run{HOSTILE}"
    code, text = shown(capsys, "noise", *data, "--models", mine, "--sigma", "0,1", "--out", run)
    assert (code, "\\x1b[31m" in text) == (0, True)
    for command in (["runs", place], ["runs", run], ["report", run]):
        code, text = shown(capsys, *command)
        assert (code, "\\x1b" in text) == (0, True)
    code, _ = shown(capsys, "heatmap", mine, *data, "--size", "1", "--out", place / "map")
    assert code == 0
    code, _ = shown(
        capsys, "recover", *data, "--source", mine, "--kind", "fgsm", "--compressions", "0.5", "--bits", "4",
        "--networks", other, "--out", place / "back",
    )  # fmt: skip
    assert code == 0
    pages = [run / "report.html", place / "map" / "report.html", place / "back" / "report.html"]
    for page in pages:
        html = page.read_text("utf-8")
        assert not unsafe(html)
        assert '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';' in html
        assert "<script" not in html
        assert "<img src=x" not in html
    assert "&lt;script&gt;alert(&#34;{{ 7 * 7 }}" in pages[0].read_text("utf-8")


def test_lists_and_checks(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = shown(capsys, "models")
    assert (code, "left out: " in text) == (0, True)
    code, text = shown(capsys, "models", "--verify", "--data-dir", place)
    assert (code, "FAILED" in text) == (2, True)
    code, text = shown(capsys, "data", "list", "--data-dir", place)
    assert (code, "\\x1b" in text) == (0, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["noise", "--models", "own=hostile_factory:raises", "--limit", "2"],
        ["noise", "--models", HOSTILE],
        ["noise", "--models", f"x={HOSTILE}.safetensors"],
        ["noise", "--dataset", f"folder:{HOSTILE}", "--models", "fp32"],
        ["noise", "--dataset", HOSTILE, "--models", "fp32"],
        ["noise", "--sigma", HOSTILE],
        ["noise", "--kind", HOSTILE],
        ["noise", "--device", HOSTILE, "--models", "fp32"],
        ["noise", "--arch", HOSTILE, "--models", "fp32"],
        ["noise", f"--{HOSTILE}"],
        ["attack", "--kind", HOSTILE],
        ["attack", "--kind", "fgsm", "--set", HOSTILE],
        ["attack", "--kind", "fgsm", "--source", HOSTILE, "--models", "fp32", "--limit", "2"],
        ["attacks", HOSTILE],
        ["heatmap", HOSTILE],
        ["recover", "--kind", HOSTILE],
        ["recover", "--compressions", HOSTILE],
        ["recover", "--networks", HOSTILE],
        ["report", HOSTILE],
        ["report", HOSTILE, "--output", HOSTILE],
        ["runs", HOSTILE],
        ["data", "get", HOSTILE],
        ["train", HOSTILE],
        [HOSTILE],
    ],
    ids=lambda arguments: " ".join(arguments).replace(HOSTILE, "X"),
)
def test_every_argument(arguments: Sequence[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = shown(capsys, *arguments)
    assert code == 2
    assert "Error: " in text.splitlines()[-1]


def test_records_that_were_edited(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "run"
    images = ["--dataset", "cifar10-sample", "--limit", "2", "--models", "fp32"]
    assert shown(capsys, "noise", *images, "--sigma", "0,1", "--out", run)[0] == 0
    record = json.loads((run / "run.json").read_text())
    record["dataset"]["name"] = record["started"] = record["command_line"] = HOSTILE
    (run / "run.json").write_text(json.dumps(record))
    for command in (["runs", run], ["report", run]):
        shown(capsys, *command)
    if (run / "report.html").exists():
        assert not unsafe((run / "report.html").read_text("utf-8"))
