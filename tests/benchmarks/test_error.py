import json
import subprocess
import sys
from pathlib import Path

import error
import pytest
import torch
import torch.nn.functional as F
from support import oracle

from blrobust.data import datasets
from blrobust.models import zoo

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "error.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("error")
    done = run("--images", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (out / "error-compact.md").read_text()
    return out


def test_every_layer_and_both_cuts_are_there(folder):
    points = json.loads((folder / "error-compact.json").read_text())["points"]
    by_cut = {cut: {(p["layer"], p["k"]): p for p in points if p["cut"] == cut} for cut in ("coarse", "fine")}
    assert by_cut["coarse"].keys() == by_cut["fine"].keys()
    assert len({p["layer"] for p in points}) == 19
    for key, coarse in by_cut["coarse"].items():
        fine = by_cut["fine"][key]
        # As many coefficients, or one more, and never less energy.
        assert 0 <= coarse["dropped"] - fine["dropped"] <= 1.001 / 10**2
        assert fine["energy"] >= coarse["energy"] - 1e-12
        assert 0 < fine["error"] < 1
        assert 0 < coarse["error"] < 1
    assert (folder / "error-compact.png").read_bytes().startswith(b"\x89PNG")
    table = (folder / "error-compact.md").read_text().splitlines()
    assert len({line.count("|") for line in table[2:]}) == 1


def test_the_coarse_error_of_the_first_layer_is_that_of_the_definition(folder):
    data = datasets.load("cifar10-sample")
    model = zoo.load("fp32", dataset=data, device=torch.device("cpu")).module
    seen = []
    stem = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    stem.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].double()))
    model(data.pixels(slice(0, 2)))
    weight = stem.weight.double()
    whole = F.conv2d(seen[0], weight, padding=1)
    # k = int(18 sqrt(1 - 0.7)) = 9 of the 18 frequencies of 34 points.
    y = oracle.conv2d(seen[0], weight, padding=1, compression=0.7, fft_size="compact")
    points = json.loads((folder / "error-compact.json").read_text())["points"]
    found = next(p for p in points if p["cut"] == "coarse" and p["k"] == 9)
    assert found["dropped"] == pytest.approx(1 - 17**2 / 34**2)
    assert found["error"] == pytest.approx(float((y - whole).norm() / whole.norm()), rel=1e-4)


def test_bad_arguments_and_help(monkeypatch, capsys):
    for arguments in (["--images", "0"], ["--help"]):
        monkeypatch.setattr(sys, "argv", ["error.py", *arguments])
        with pytest.raises(SystemExit):
            error.main()
    shown, complaint = capsys.readouterr()
    assert "must be from 1 to 1000, got 0" in complaint
    assert "the error of band-limited convolutions" in shown.lower()
    assert all(name in shown for name in ("--images", "--fft-size", "--out"))
